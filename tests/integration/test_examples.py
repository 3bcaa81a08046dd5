"""Every file of examples/ runs as examples/README.md says, and the README's words about them hold."""
import json
import pathlib
import re
import socket
import uuid

import pulsar
import pytest

from support import ROOT, http, listens, wait_until

RECEIVE_MS = 30000
EXAMPLES = ROOT / "examples"


def source(standalone, name, port, kind="tcp"):
    if kind == "tcp" and listens(port):
        pytest.skip(f"port {port} of the example is taken by another process")
    process = standalone.localrun("sources", "--source-config-file", EXAMPLES / name)
    process.wait_for(rf"127\.0\.0\.1:{port}")
    return process


def consumer(client, topic):
    return client.subscribe(topic, "test", initial_position=pulsar.InitialPosition.Earliest)


def test_lines_into_a_file(standalone, client):
    source(standalone, "netty-tcp-lines.yaml", 10999)
    sink = standalone.localrun("sinks", "--sink-config-file", EXAMPLES / "file-sink.yaml")
    with socket.create_connection(("127.0.0.1", 10999)) as connection:
        connection.sendall(b"one\ntwo\n")
    out = standalone.workshop.folder / "lines.jsonl"
    wait_until(lambda: out.exists() and out.read_text().count("\n") == 2, "both lines are in the file")
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["value"] for record in records] == ["one", "two"]
    assert sink.running()


def test_http(standalone, client):
    source(standalone, "netty-http.yaml", 10998)
    assert http("POST", "http://127.0.0.1:10998/", b'{"hello": "world"}')[0] == 200
    assert consumer(client, "requests").receive(timeout_millis=RECEIVE_MS).data() == b'{"hello": "world"}'


def test_udp(standalone, client):
    source(standalone, "netty-udp.yaml", 10997, "udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"cpu 42\n", ("127.0.0.1", 10997))
    assert consumer(client, "datagrams").receive(timeout_millis=RECEIVE_MS).data() == b"cpu 42\n"


def test_elastic_search(standalone, client, elasticsearch):
    """The example's address is a user's; the flag replaces its configs, as flags do."""
    text = (EXAMPLES / "elastic-search-sink.yaml").read_text()
    index = "example" + uuid.uuid4().hex[:8]
    here = standalone.workshop.file("es.yaml", text.replace("http://127.0.0.1:9200", elasticsearch)
                                    .replace("indexName: documents", f"indexName: {index}"))
    sink = standalone.localrun("sinks", "--sink-config-file", here)
    made = standalone.workshop.run("client", "--url", standalone.url, "produce", "documents", "-m", '{"hello": "world"}')
    assert made.returncode == 0, made.stderr

    def arrived():
        http("POST", f"{elasticsearch}/{index}/_refresh")
        status, answer = http("GET", f"{elasticsearch}/{index}/_search")
        return status == 200 and [hit["_source"] for hit in json.loads(answer)["hits"]["hits"]]
    assert wait_until(arrived, "the document is there") == [{"hello": "world"}]
    assert sink.running()


def test_every_example_is_tried_here():
    tried = pathlib.Path(__file__).read_text()
    for path in EXAMPLES.glob("*.yaml"):
        assert path.name in tried, f"{path.name} has no test"
        assert path.name in (EXAMPLES / "README.md").read_text(), f"{path.name} is not in examples/README.md"


def test_the_pages_name_keys_that_exist(workshop):
    """Every key in the first column of a guide page's table is one that `connectors show` lists."""
    for page, connector in (("netty", "netty"), ("elastic_search", "elastic_search"), ("file", "file")):
        shown = workshop.run("connectors", "show", connector).stdout
        rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs/guide" / f"{page}.md").read_text(), re.MULTILINE)
        keys = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
        assert keys
        for key in keys:
            assert re.search(rf"\b{key}\b", shown), f"{page}.md tells of {key}, which {connector} does not have"


def test_links_of_the_pages_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("tests/**/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"
