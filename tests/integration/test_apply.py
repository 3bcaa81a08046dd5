"""`hulse apply` and `hulse check`: files that describe what should run."""
import json
import socket

import pytest

from support import free_port, wait_until


@pytest.fixture
def broker(workshop):
    return workshop.standalone()


@pytest.fixture
def folder(workshop):
    path = workshop.folder / "components"
    path.mkdir()
    return path


def write(path, text):
    path.write_text(text)
    return path


def sink_file(folder, name="keep", path="out.jsonl", extra=""):
    return write(folder / f"{name}.yaml", f"name: {name}\nsinkType: file\ninputs: [t]\nconfigs:\n  path: {folder}/{path}\n{extra}")


def test_apply_makes_it_so_and_a_second_time_nothing(workshop, broker, folder):
    def apply(*words, ok=True):
        done = workshop.run("apply", "--admin-url", broker.web, "-f", folder, *words)
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done.stdout if ok else done.stderr

    def names(kind):
        return json.loads(workshop.run("--admin-url", broker.web, kind, "list").stdout)
    sink_file(folder)
    write(folder / "people.yml", "name: people\nsourceType: data-generator\ntopicName: t\n")
    write(folder / "README.txt", "not a component")
    said = apply("--dry-run")
    assert "sink public/default/keep: created" in said and "nothing was done" in said and names("sinks") == []
    said = apply()
    assert "sink public/default/keep: created" in said and "source public/default/people: created" in said
    assert names("sinks") == ["keep"] and names("sources") == ["people"]
    out = folder / "out.jsonl"
    wait_until(lambda: out.exists() and out.stat().st_size > 0, "records flow")
    out.rename(workshop.folder / "moved.jsonl")  # it is no component file
    assert apply().count("unchanged") == 2

    # A change is told, and done; what no file describes goes only when that is asked for.
    sink_file(folder, extra="customRuntimeOptions: '{\"onReject\": \"skip\"}'\n")
    (folder / "people.yml").unlink()
    said = apply()
    assert "keep: updated" in said and "customRuntimeOptions: not set ->" in said and names("sources") == ["people"]
    assert "source/public/default/people: deleted" in apply("--prune")
    assert names("sources") == [] and names("sinks") == ["keep"]

    # One bad file, and nothing is changed.
    sink_file(folder, name="second")
    write(folder / "third.yaml", "name: third\nsinkType: file\ninputs: [t]\nconfigs:\n  pth: x\n")
    write(folder / "fourth.yaml", "name: fourth\nparallelism: 2\n")
    said = apply(ok=False)
    assert "third.yaml: pth: unknown key; did you mean path?" in said and "fourth.yaml: it cannot be told" in said
    assert "nothing was changed" in said and names("sinks") == ["keep"]


def test_check_says_what_is_wrong_and_opens_the_target(workshop, folder):
    def check(*words):
        done = workshop.run("check", *words)
        return done.returncode, done.stdout + done.stderr
    good = sink_file(folder)
    status, said = check(good)
    assert status == 0 and "sink public/default/keep (file) is as it should be" in said
    bad = write(folder / "bad.yaml", "name: bad\nsinkType: fil\ninputs: ['a b://c']\nparallelism: many\n")
    status, said = check(folder)
    assert status == 1 and "1 of 2 files have problems" in said
    for part in (f"{bad}: ", "parallelism: ", "Invalid sink type 'fil'"):
        assert part in said, said
    # The target: a port that another program has.
    bad.unlink()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        source = write(folder / "lines.yaml", "name: lines\nsourceType: netty\ntopicName: t\nconfigs:\n  type: tcp\n"
                                              f"  host: 127.0.0.1\n  port: {port}\n")
        status, said = check(source)
        assert status == 1 and str(port) in said and "in use" in said
        status, said = check("--offline", source)
        assert status == 0 and "not opened (--offline)" in said
    unreachable = write(folder / "es.yaml", "name: es\nsinkType: elastic_search\ninputs: [t]\nconfigs:\n"
                                            f"  elasticSearchUrl: http://127.0.0.1:{free_port()}\n  indexName: i\n")
    status, said = check(unreachable)
    assert status == 1 and "elastic_search" in said and "127.0.0.1" in said
