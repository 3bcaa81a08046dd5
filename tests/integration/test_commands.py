"""The command line: the book's commands as printed, refusals that name every problem, and what is shown."""
import json
import re
import socket
import uuid

import pulsar
import pytest

from support import ROOT, http, listens, wait_until

RECEIVE_MS = 30000
BOOK_SINK = ("bin/pulsar-admin sinks localrun --archive connectors/pulsar-io-elastic-search-2.8.1.nar --tenant public "
             "--namespace default --name elasticsearch-test-sink --sink-config my_elastic_search.json "
             "--processing-guarantees EFFECTIVELY_ONCE --inputs good_topic")
BOOK_SOURCE = ("./bin/pulsar-admin sources localrun --archive pulsar-io-2.8.1.nar --tenant public --namespace default "
               "--name netty --destination-topic-name netty-topic --source-config-file netty-source-config.yaml "
               "--parallelism 1")
NETTY_FLAT = '{ "type": "tcp", "host": "127.0.0.1", "port": "10911", "numberOfThreads": "1" }\n'


@pytest.fixture
def shell(workshop):
    """A folder like a reader of the book has: bin/ with our programs. Starts words as a shell would split them."""
    (workshop.folder / "bin").symlink_to(ROOT / "bin")
    assert (ROOT / "bin/pulsar-admin").exists(), "the build links bin/pulsar-admin"

    def start(line):
        program, *words = line.split()
        return workshop.start(*words, program=workshop.folder / program)
    start.folder = workshop.folder
    return start


@pytest.fixture
def default_ports(workshop):
    """The book's commands name no URL, so the broker must be on its default ports."""
    for port in (6650, 8080):
        if listens(port):
            pytest.skip(f"port {port} is taken by another process; the book's commands need it")
    process = workshop.start("standalone", "--data-dir", workshop.folder / "data")
    wait_until(lambda: not process.running() or listens(8080) and http("GET", "http://127.0.0.1:8080/ready")[0] == 200,
               "it is ready on its default ports")
    assert process.running(), process.output()
    return process


def test_the_book_s_sink_command(workshop, shell, default_ports, connect, elasticsearch):
    index = "book" + uuid.uuid4().hex[:8]
    workshop.file("my_elastic_search.json", {"elasticSearchUrl": elasticsearch, "indexName": index,
                                             "username": "scooby", "password": "doo"})
    sink = shell(BOOK_SINK)
    # The built-in stands for the archive, and the subscription starts at the end of the topic: both are said.
    sink.wait_for(r"(?i)pulsar-io-elastic-search-2\.8\.1\.nar")
    sink.wait_for(r"(?i)latest")
    producer = connect("pulsar://127.0.0.1:6650").create_producer("good_topic")

    def arrived():
        producer.send(json.dumps({"hello": "book"}).encode())
        http("POST", f"{elasticsearch}/{index}/_refresh")
        status, answer = http("GET", f"{elasticsearch}/{index}/_count")
        return status == 200 and json.loads(answer)["count"] > 0
    wait_until(arrived, "a published document is in Elasticsearch")
    assert "doo" not in re.findall(r"\w+", sink.output())
    assert sink.stop()[1] == 0


@pytest.mark.parametrize("text", [NETTY_FLAT, 'type: tcp\nhost: 127.0.0.1\nport: "10911"\nnumberOfThreads: "1"\n',
                                  'configs:\n  type: tcp\n  host: 127.0.0.1\n  port: "10911"\n'],
                         ids=["flat JSON", "flat YAML", "configs"])
def test_the_book_s_source_command(workshop, shell, default_ports, connect, text):
    workshop.file("netty-source-config.yaml", text)
    source = shell(BOOK_SOURCE)
    wait_until(lambda: listens(10911) or not source.running(), "the source listens")
    assert source.running(), source.output()
    assert "netty" in source.output()
    consumer = connect("pulsar://127.0.0.1:6650").subscribe("netty-topic", "s",
                                                            initial_position=pulsar.InitialPosition.Earliest)
    with socket.create_connection(("127.0.0.1", 10911)) as connection:
        connection.sendall(b"from the book")
    assert consumer.receive(timeout_millis=RECEIVE_MS).data() == b"from the book"
    assert source.stop()[1] == 0


@pytest.mark.parametrize("line", [BOOK_SINK, BOOK_SOURCE], ids=["sink", "source"])
def test_without_a_broker_the_book_s_commands_say_what_to_start(workshop, shell, line):
    if listens(6650):
        pytest.skip("port 6650 is taken by another process; this test needs nobody there")
    workshop.file("my_elastic_search.json", {"elasticSearchUrl": "http://127.0.0.1:9", "indexName": "i"})
    workshop.file("netty-source-config.yaml", NETTY_FLAT)
    process = shell(line)
    assert process.wait(30) == 1
    assert "hulse standalone" in process.output()
    assert not listens(10911)


def test_an_archive_that_names_nothing_and_keys_that_fit_nothing(workshop, standalone):
    config = workshop.file("c.yaml", "{}\n")
    done = workshop.run("sources", "localrun", "--broker-service-url", standalone.url, "--archive", "pulsar-io-2.8.1.nar",
                        "--name", "x", "--destination-topic-name", "t", "--source-config-file", config)
    assert done.returncode == 1
    assert "--source-type" in done.stderr


def problems(workshop, url, kind, *arguments):
    done = workshop.run(kind, "localrun", "--broker-service-url", url, "--name", "x", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_misspelt_key_is_named_with_the_right_one(workshop, standalone):
    text = problems(workshop, standalone.url, "sinks", "--sink-type", "elastic_search", "--inputs", "t", "--sink-config",
                    '{"elasticSearchUrl": "http://127.0.0.1:9", "indxName": "i"}')
    assert "indxName" in text
    assert "did you mean indexName?" in text


def test_all_problems_come_in_one_message(workshop, standalone):
    text = problems(workshop, standalone.url, "sinks", "--sink-type", "elastic_search", "--inputs", "t", "--sink-config",
                    '{"indxName": "i", "bulkActions": "many", "bulkEnabled": "perhaps", "indexNumberOfShards": 0}')
    for word in ("indxName", "bulkActions", "many", "bulkEnabled", "perhaps", "indexNumberOfShards", "elasticSearchUrl"):
        assert word in text, word


def test_a_wrong_netty_configuration_starts_nothing(workshop, standalone):
    text = problems(workshop, standalone.url, "sources", "--source-type", "netty", "--destination-topic-name", "t",
                    "--source-config", '{"type": "carrier pigeon", "port": 80, "numberOfThreads": 0}')
    for word in ("type", "carrier pigeon", "port", "1024", "numberOfThreads"):
        assert word in text, word


@pytest.mark.parametrize("arguments, word", [
    (["--sink-type", "elastic_serch", "--inputs", "t"], "elastic_search"),
    (["--sink-type", "elastic_search"], "--inputs"),
    (["--inputs", "t"], "--sink-type"),
    (["--sink-type", "file", "--archive", "x.nar", "--inputs", "t"], "--archive"),
    (["--sink-type", "file", "--inputs", "t", "--sink-config", "{not json"], "--sink-config"),
    (["--sink-type", "file", "--inputs", "t", "--sink-config", "no-such-file.json"], "no-such-file.json"),
    (["--sink-type", "file", "--inputs", "t", "--processing-guarantees", "SOMETIMES"], "SOMETIMES"),
    (["--sink-type", "file", "--inputs", "t", "--sink-cnfig", "{}"], "--sink-cnfig"),
], ids=lambda value: value if isinstance(value, str) else None)
def test_wrong_words_of_localrun(workshop, standalone, arguments, word):
    assert word in problems(workshop, standalone.url, "sinks", *arguments)


def test_a_netty_source_cannot_be_effectively_once(workshop, standalone):
    text = problems(workshop, standalone.url, "sources", "--source-type", "netty", "--destination-topic-name", "t",
                    "--source-config", '{"type": "tcp"}', "--processing-guarantees", "EFFECTIVELY_ONCE")
    assert "EFFECTIVELY_ONCE" in text


def test_connectors_are_listed_and_shown(workshop):
    listed = workshop.run("connectors", "list")
    assert listed.returncode == 0
    for name in ("netty", "elastic_search", "file", "data-generator"):
        assert re.search(rf"^\W*{name}\b", listed.stdout, re.MULTILINE), listed.stdout
    shown = workshop.run("connectors", "show", "netty")
    assert shown.returncode == 0
    for word in ("type", "host", "port", "numberOfThreads", "10999", "127.0.0.1", "framing", "line"):
        assert word in shown.stdout, word
    shown = workshop.run("connectors", "show", "elastic-search")  # the alias of users' scripts
    for word in ("elasticSearchUrl", "required", "indexName", "password", "bulkActions", "1000"):
        assert word in shown.stdout, word
    unknown = workshop.run("connectors", "show", "nety")
    assert unknown.returncode == 1
    assert "netty" in unknown.stderr


def test_the_client_produces_and_consumes(workshop, standalone, topic):
    made = workshop.run("client", "--url", standalone.url, "produce", topic, "-m", "one,two", "-n", 2)
    assert made.returncode == 0, made.stderr
    read = workshop.run("client", "--url", standalone.url, "consume", topic, "-s", "s", "-n", 4, "-p", "Earliest")
    assert read.returncode == 0, read.stderr
    assert re.findall(r"content:(\w+)", read.stdout) == ["one", "two", "one", "two"]


def test_the_client_s_words_without_a_broker(workshop):
    done = workshop.run("client", "--url", "pulsar://127.0.0.1:9", "produce", "t", "-m", "x")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr


def test_a_secret_is_never_printed(workshop, standalone):
    """Wherever it is given and whatever is wrong beside it."""
    canary = "canary-" + uuid.uuid4().hex
    for wrong in ({"indxName": "i"}, {"bulkActions": canary[:0] + "many"}, {"password": [canary]}, {"token": canary}):
        config = {"elasticSearchUrl": "http://127.0.0.1:9", "username": "u", "password": canary, **wrong}
        inline = problems(workshop, standalone.url, "sinks", "--sink-type", "elastic_search", "--inputs", "t",
                          "--sink-config", json.dumps(config))
        path = workshop.file("secret.json", config)
        from_file = problems(workshop, standalone.url, "sinks", "--sink-type", "elastic_search", "--inputs", "t",
                             "--sink-config-file", path)
        for text in (inline, from_file):
            assert canary not in text, wrong
    in_url = f"http://user:{canary}@127.0.0.1:9"
    process = standalone.sink("elastic_search", "t", {"elasticSearchUrl": in_url, "indexName": "i"}, name="url")
    process.wait_for(r"127\.0\.0\.1:9")
    process.kill()
    assert canary not in process.output() and canary not in standalone.process.output()
