"""The elastic_search sink against a real Elasticsearch 7.10, and against one that answers what we say."""
import json
import uuid

import pytest

from fake_elasticsearch import Fake
from support import http as request
from support import wait_until


@pytest.fixture
def index():
    return "t" + uuid.uuid4().hex[:12]


def documents(elasticsearch, index):
    """Id and source of every document of the index, however many."""
    request("POST", f"{elasticsearch}/{index}/_refresh")
    status, answer = request("GET", f"{elasticsearch}/{index}/_search?size=10000")
    if status in (404, 503):  # not there yet, or its shard is still starting
        return {}
    assert status == 200, answer
    return {hit["_id"]: hit["_source"] for hit in json.loads(answer)["hits"]["hits"]}


def publish(client, topic, values, **settings):
    producer = client.create_producer(topic, block_if_queue_full=True, **settings)
    for value in values:
        value = value if isinstance(value, tuple) else (None, value)
        producer.send_async(value[1] if isinstance(value[1], bytes) else json.dumps(value[1]).encode(), None,
                            partition_key=value[0])
    producer.flush()
    producer.close()


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "single"])
def test_documents_arrive(standalone, client, topic, elasticsearch, index, bulk):
    sink = standalone.sink("elastic_search", topic, {"elasticSearchUrl": elasticsearch, "indexName": index,
                                                     "bulkEnabled": bulk, "bulkFlushIntervalInMs": 100}, name=index)
    count = 3000 if bulk else 200
    publish(client, topic, [{"n": i, "text": f"größer {i}"} for i in range(count)])
    wait_until(lambda: len(documents(elasticsearch, index)) >= count, "every document is there")
    assert sorted(d["n"] for d in documents(elasticsearch, index).values()) == list(range(count))
    assert sink.stop()[1] == 0


def test_the_book_s_keys(standalone, client, topic, elasticsearch, index):
    """Table 7-1 of the book: every key is taken, the index is made with its shards."""
    standalone.sink("elastic_search", topic, {
        "elasticSearchUrl": elasticsearch, "indexName": index, "typeName": "doc", "indexNumberOfShards": "2",
        "indexNumberOfReplicas": 0, "username": "scooby", "password": "doo", "createIndexIfNeeded": True}, name=index)
    publish(client, topic, [{"n": 1}])
    wait_until(lambda: documents(elasticsearch, index), "the document is there")
    _, answer = request("GET", f"{elasticsearch}/{index}/_settings")
    assert json.loads(answer)[index]["settings"]["index"]["number_of_shards"] == "2"


def test_keys_become_ids_and_null_values_delete(standalone, client, topic, elasticsearch, index):
    standalone.sink("elastic_search", topic, {"elasticSearchUrl": elasticsearch, "indexName": index, "bulkEnabled": True,
                                              "keyIgnore": "false", "nullValueAction": "DELETE"}, name=index)
    publish(client, topic, [("a", {"n": 1}), ("b", {"n": 2}), ("a", {"n": 3})])
    wait_until(lambda: documents(elasticsearch, index) == {"a": {"n": 3}, "b": {"n": 2}}, "the newest value of each key is there")
    publish(client, topic, [("b", b"")])
    wait_until(lambda: documents(elasticsearch, index) == {"a": {"n": 3}}, "b is gone")


def test_a_bad_document_does_not_hold_back_good_ones(standalone, client, topic, elasticsearch, index):
    integer_index(elasticsearch, index)
    sink = standalone.sink("elastic_search", topic, {"elasticSearchUrl": elasticsearch, "indexName": index,
                                                     "bulkEnabled": True, "malformedDocAction": "WARN"}, name=index)
    publish(client, topic, [{"n": 1}, {"n": "not a number"}, b"not json", {"n": 2}])
    wait_until(lambda: len(documents(elasticsearch, index)) == 2, "the good documents are there")
    assert sorted(d["n"] for d in documents(elasticsearch, index).values()) == [1, 2]
    sink.wait_for("not a number|mapper_parsing_exception")
    publish(client, topic, [{"n": 3}])
    wait_until(lambda: len(documents(elasticsearch, index)) == 3, "later ones arrive")


def integer_index(elasticsearch, index):
    status, answer = request("PUT", f"{elasticsearch}/{index}",
                             json.dumps({"mappings": {"properties": {"n": {"type": "integer"}}}}).encode(),
                             {"Content-Type": "application/json"})
    assert status == 200, answer


def test_rejected_documents_go_to_the_dead_letter_topic(standalone, client, topic, elasticsearch, index):
    integer_index(elasticsearch, index)
    standalone.sink("elastic_search", topic, {"elasticSearchUrl": elasticsearch, "indexName": index}, name="strict")
    publish(client, topic, [("k", {"n": 1}), ("bad", {"n": "not a number"}), ("worse", b"not json"), ("k", {"n": 2})])
    wait_until(lambda: len(documents(elasticsearch, index)) == 2, "the good documents are there")
    # The sink made the subscription with the topic, so nothing was trimmed before somebody looked.
    dead = client.subscribe(f"{topic}-strict-DLQ", "dead-letters")
    letters = {}
    for _ in range(2):
        message = dead.receive(timeout_millis=30000)
        letters[message.partition_key()] = message
    assert letters["bad"].data() == b'{"n": "not a number"}' and letters["worse"].data() == b"not json"
    for message in letters.values():
        assert message.properties()["REAL_TOPIC"] == topic
        assert message.properties()["HULSE_REASON"]
    assert "mapper_parsing_exception" in letters["bad"].properties()["HULSE_REASON"]


def test_rejected_documents_are_skipped_on_request(standalone, client, topic, elasticsearch, index):
    integer_index(elasticsearch, index)
    sink = standalone.sink("elastic_search", topic, {"elasticSearchUrl": elasticsearch, "indexName": index}, "lenient",
                           "--custom-runtime-options", '{"onReject": "skip"}')
    publish(client, topic, [{"n": 1}, b"not json", {"n": 2}])
    wait_until(lambda: len(documents(elasticsearch, index)) == 2, "the good documents are there")
    assert sink.stop()[1] == 0
    assert "skipped 1" in sink.output()


def test_a_rejected_document_stops_the_sink_on_request_and_is_not_lost(standalone, client, topic, elasticsearch, index):
    integer_index(elasticsearch, index)
    config = {"elasticSearchUrl": elasticsearch, "indexName": index}
    publish(client, topic, [{"n": 1}, b"not json"], batching_enabled=False)
    sink = standalone.sink("elastic_search", topic, config, "stopper", "--custom-runtime-options", '{"onReject": "stop"}')
    assert sink.wait() == 1
    assert "rejected" in sink.output()
    # It was not acknowledged: a sink that skips finds it.
    again = standalone.sink("elastic_search", topic, config, "stopper", "--custom-runtime-options", '{"onReject": "skip"}')
    again.wait_for("is skipped")


def test_effectively_once_repeats_overwrite_themselves(workshop, connect, topic, elasticsearch, index):
    """A sink killed again and again ends with each document once: the same message has the same id."""
    broker = workshop.standalone()
    start = lambda: broker.sink("elastic_search", topic, {"elasticSearchUrl": elasticsearch, "indexName": index,
                                                          "bulkEnabled": True, "bulkActions": 50},
                                index, "--processing-guarantees", "EFFECTIVELY_ONCE")
    client = connect(broker.url)
    client.subscribe(topic, "keeper")
    publish(client, topic, [{"n": i} for i in range(4000)])
    for round in range(1, 4):
        sink = start()
        wait_until(lambda: len(documents(elasticsearch, index)) >= 700 * round, "some more documents are there")
        sink.kill()
    start()
    wait_until(lambda: len(documents(elasticsearch, index)) >= 4000, "all are there")
    assert sorted(d["n"] for d in documents(elasticsearch, index).values()) == list(range(4000))


@pytest.fixture
def fake():
    servers = []

    def make(judge):
        servers.append(Fake(judge))
        return servers[-1]
    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_item_is_tried_again(standalone, client, topic, fake, status):
    tries = {}

    def judge(document, _):
        if document is None:
            return None
        tries[document["n"]] = tries.get(document["n"], 0) + 1
        return status if document["n"] % 5 == 0 and tries[document["n"]] < 3 else 201
    target = fake(judge)
    standalone.sink("elastic_search", topic, {"elasticSearchUrl": target.url, "indexName": "i", "bulkEnabled": True,
                                              "retryBackoffInMs": 10}, name=f"busy-{status}")
    publish(client, topic, [{"n": i} for i in range(50)])
    wait_until(lambda: len(target.stored) >= 50, "all are stored")
    assert sorted(d["n"] for d in target.stored) == list(range(50))
    # What was stored is not sent again; what was refused for now is, in place.
    assert all(count == (3 if n % 5 == 0 else 1) for n, count in tries.items()), tries


@pytest.mark.parametrize("status", [429, 502])
def test_a_busy_target_is_asked_again(standalone, client, topic, fake, status):
    target = fake(lambda document, count: (status if count <= 2 else None) if document is None else 201)
    standalone.sink("elastic_search", topic, {"elasticSearchUrl": target.url, "indexName": "i", "bulkEnabled": True,
                                              "retryBackoffInMs": 10}, name=f"target-{status}")
    publish(client, topic, [{"n": i} for i in range(10)])
    wait_until(lambda: len(target.stored) >= 10, "all are stored")
    assert sorted(d["n"] for d in target.stored) == list(range(10))


def test_a_target_that_is_away_at_first(workshop, connect, topic):
    """Nothing is lost and nothing is acknowledged while the target does not answer; status says why it waits."""
    import socket
    broker = workshop.standalone()
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    sink = broker.sink("elastic_search", topic, {"elasticSearchUrl": f"http://127.0.0.1:{port}", "indexName": "i",
                                                 "bulkEnabled": True, "retryBackoffInMs": 50}, name="patient")
    publish(connect(broker.url), topic, [{"n": i} for i in range(10)])
    sink.wait_for(rf"127\.0\.0\.1:{port}")
    assert sink.running()
    target = Fake(lambda document, _: None if document is None else 201, port)
    try:
        wait_until(lambda: len(target.stored) >= 10, "all are stored once it answers")
    finally:
        target.shutdown()
        target.server_close()


def test_credentials_are_sent_and_never_printed(standalone, client, topic, fake):
    import base64
    canary = "canary-" + uuid.uuid4().hex
    target = fake(lambda document, count: (401 if count <= 1 else None) if document is None else 201)
    sink = standalone.sink("elastic_search", topic, {"elasticSearchUrl": target.url, "indexName": "i", "bulkEnabled": True,
                                                     "username": "elastic", "password": canary, "retryBackoffInMs": 10},
                           name="secret")
    publish(client, topic, [{"n": 1}])
    wait_until(lambda: target.headers_seen, "the target was asked")
    expected = "Basic " + base64.b64encode(f"elastic:{canary}".encode()).decode()
    assert {h.get("Authorization") for h in target.headers_seen} == {expected}
    sink.stop()
    encoded = base64.b64encode(f"elastic:{canary}".encode()).decode()
    for text in (sink.output(), standalone.process.output()):
        assert canary not in text and encoded not in text
