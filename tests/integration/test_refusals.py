"""What the web interface is asked and cannot do is refused with the reason, and nothing has changed."""
import json

import pulsar
import pytest

from support import http

JSON = {"Content-Type": "application/json"}


def ask(broker, method, path, body=None):
    status, answer = http(method, f"{broker.web}/admin/v2/{path}", None if body is None else json.dumps(body).encode(), JSON)
    return status, answer.decode()


def test_a_position_moves_only_by_numbers(standalone, connect):
    client = connect(standalone.url)
    client.subscribe("moves", "s").close()
    producer = client.create_producer("moves", batching_enabled=False)
    for i in range(20):
        producer.send(b"%d" % i)
    base = "persistent/public/default/moves"

    def backlog():
        return json.loads(ask(standalone, "GET", base + "/stats")[1])["subscriptions"]["s"]["msgBacklog"]
    assert backlog() == 20
    subscription = f"{base}/subscription/s"
    for path in ("skip/-5", "skip/x", "skip/5x", "resetcursor/abc", "expireMessages/x"):
        status, answer = ask(standalone, "POST", f"{subscription}/{path}")
        assert status == 412 and "is no number" in answer, path
    for body in ({}, {"ledgerId": 1}, {"ledgerId": "x", "entryId": 1}, 7):
        status, answer = ask(standalone, "POST", subscription + "/resetcursor", body)
        assert status == 400 and "a message id is expected" in answer, body
    assert ask(standalone, "POST", subscription + "/resetcursor")[0] == 412
    assert backlog() == 20
    assert ask(standalone, "POST", subscription + "/skip/5")[0] == 204 and backlog() == 15


@pytest.mark.parametrize("policy, value, said", [
    ("retention", {"retentionTimeInMinutes": "ten", "retentionSizeInMB": 1}, "retentionTimeInMinutes: a number"),
    ("retention", {"retentionTimeInMinutes": 1, "retentionSizeInMB": 1, "retentionTimeInMinuts": 5}, "retentionTimeInMinuts"),
    ("messageTTL", -5, "from 0 on"),
    ("maxConsumersPerTopic", -1, "from 0 on"),
    ("inactiveTopicPolicies", {"inactiveTopicDeleteMode": "rubbish", "maxInactiveDurationSeconds": 1}, "delete_when_no"),
    ("inactiveTopicPolicies", {"inactiveTopicDeleteMode": "delete_when_no_subscriptions"}, "maxInactiveDurationSeconds"),
    ("schemaCompatibilityStrategy", "RUBBISH", "FULL_TRANSITIVE"),
    ("autoTopicCreation", {"allowAutoTopicCreation": True, "topicType": "partitioned", "defaultNumPartitions": 3}, "topicType"),
    ("encryptionRequired", True, "does not look"),
    ("backlogQuota", {"limitSize": "x", "policy": "producer_exception"}, "limitSize is a number"),
    ("permissions/bob", ["prodce"], "is no action"),
    ("replication", ["standalone", "other"], "one cluster"),
])
def test_a_policy_that_cannot_be_kept_is_refused(standalone, policy, value, said):
    status, answer = ask(standalone, "POST", f"namespaces/public/default/{policy}", value)
    if status == 405:  # Pulsar sets it with PUT
        status, answer = ask(standalone, "PUT", f"namespaces/public/default/{policy}", value)
    assert status in (400, 412) and said in answer, answer


def test_a_namespace_is_not_made_with_a_policy_that_cannot_be_kept(standalone):
    for body, said in (({"message_ttl_in_seconds": -5}, "from 0 on"), ({"retention_policies": 7}, "object is expected"),
                       ({"encryption_required": True}, "does not look")):
        status, answer = ask(standalone, "PUT", "namespaces/public/odd", body)
        assert status in (400, 412) and said in answer, answer
    assert ask(standalone, "PUT", "namespaces/public/odd", {"message_ttl_in_seconds": None, "bundles": {"numBundles": 4}})[0] == 204


def test_a_tenant_of_another_cluster_is_refused(standalone):
    status, answer = ask(standalone, "PUT", "tenants/far", {"allowedClusters": ["nowhere"]})
    assert status == 412 and "Clusters do not exist" in answer


def test_authentication_without_any_way_in_does_not_start(workshop):
    done = workshop.run("standalone", "--data-dir", workshop.folder / "data", "--authentication-enabled")
    assert done.returncode == 1 and "nobody could log in" in done.stderr and "tokenSecretKey" in done.stderr


def test_a_key_is_not_written_over(workshop):
    key = workshop.folder / "key"
    assert workshop.run("tokens", "create-secret-key", "--output", key).returncode == 0
    before = key.read_bytes()
    again = workshop.run("tokens", "create-secret-key", "--output", key)
    assert again.returncode == 1 and "is there already" in again.stderr and key.read_bytes() == before


def test_where_everybody_can_reach_it_clients_are_told_an_address(workshop, connect):
    broker = workshop.standalone(arguments=("--bind", "0.0.0.0", "--unauthenticated-remote-access"))
    url = json.loads(http("GET", f"{broker.web}/lookup/v2/topic/persistent/public/default/x")[1])["brokerUrl"]
    assert "0.0.0.0" not in url
    connect(url).create_producer("x").send(b"reached")
    assert pulsar.Client(broker.url, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)).create_producer("x").topic()


def test_a_namespace_that_is_not_there_ends_a_local_run(workshop, standalone):
    run = standalone.sink("file", "persistent://nope/ns/x", {"path": str(workshop.folder / "out")})
    assert run.wait(60) == 1
    assert "nope/ns" in run.output() and "failed" in run.output()
