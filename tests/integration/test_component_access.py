"""Who may manage functions, sources and sinks: every path of the worker with every kind of role; and the audit lines."""
import json
import re

import pytest

from test_security import Secure, certificates  # noqa: F401 (a fixture)

ROLES = {"nobody": [], "eater": ["produce", "consume"], "functioneer": ["functions"], "sourcerer": ["sources"],
         "sinker": ["sinks", "consume"], "neighbour": [], "boss": [], "admin": []}
EVERYBODY, OPERATORS = set(ROLES), {"admin"}
MANAGERS = {"functions": {"functioneer", "boss", "admin"}, "sources": {"sourcerer", "boss", "admin"},
            "sinks": {"sinker", "boss", "admin"}}
FORM = {}  # whoever may is told what is missing


def paths():
    for kind, may in MANAGERS.items():
        for base in (f"/admin/v3/{kind}", f"/admin/v3/{kind[:-1]}"):
            one = f"{base}/public/default/x"
            yield "GET", f"{base}/public/default", may
            for method in ("GET", "POST", "PUT", "DELETE"):
                yield method, one, may
            for what in ("status", "0/status"):
                yield "GET", f"{one}/{what}", may
            for verb in ("start", "stop", "restart", "0/start", "0/stop", "0/restart"):
                yield "POST", f"{one}/{verb}", may
    for kind in ("source", "sink"):
        yield "POST", f"/admin/v3/{kind}s/public/default/x/replay?from=earliest", MANAGERS[kind + "s"]
        yield "GET", f"/admin/v3/{kind}s/builtin{kind}s", EVERYBODY
        yield "GET", f"/admin/v3/{kind}s/builtin{kind}s/file/configdefinition", EVERYBODY
        yield "POST", f"/admin/v3/{kind}s/reloadBuiltIn{kind.title()}s", OPERATORS
        # A tenant that is called like a list of what is built in is a tenant.
        yield "GET", f"/admin/v3/{kind}s/builtin{kind}s/ns/x", OPERATORS
        yield "GET", f"/admin/v3/{kind}s/builtin-tenant/ns", OPERATORS
    for what in ("state/key", "stats"):
        yield "GET", f"/admin/v3/functions/public/default/x/{what}", MANAGERS["functions"]
    for what in ("state/key", "trigger"):
        yield "POST", f"/admin/v3/functions/public/default/x/{what}", MANAGERS["functions"]
    yield "GET", "/admin/v3/functions/connectors", EVERYBODY
    yield "GET", "/admin/v2/worker/connectors", EVERYBODY
    yield "GET", "/admin/v2/worker/cluster/leader/ready", EVERYBODY
    for path in ("cluster", "cluster/leader", "assignments"):
        yield "GET", f"/admin/v2/worker/{path}", OPERATORS
    yield "PUT", "/admin/v2/worker/rebalance", OPERATORS
    for path in ("metrics", "functionsmetrics"):
        yield "GET", f"/admin/v2/worker-stats/{path}", OPERATORS
    yield "GET", "/admin/v3/whatever/public/default", OPERATORS


@pytest.fixture(scope="module")
def secure(module_workshop, certificates):  # noqa: F811
    secure = Secure(module_workshop, certificates)
    admin = "Bearer " + secure.token("admin")
    assert secure.rest("POST", "/admin/v2/tenants/public", {"adminRoles": ["boss"]}, admin)[0] == 204
    assert secure.rest("PUT", "/admin/v2/tenants/other", {"adminRoles": ["neighbour"]}, admin)[0] == 204
    assert secure.rest("PUT", "/admin/v2/namespaces/other/ns", {}, admin)[0] == 204
    for role, actions in ROLES.items():
        if actions:
            secure.grant(role, *actions)
    secure.tokens = {role: "Bearer " + secure.token(role) for role in ROLES}
    return secure


@pytest.mark.parametrize("method,path,may", [pytest.param(*row, id=f"{row[0]} {row[1]}") for row in paths()])
def test_who_may_call(secure, method, path, may):
    body = FORM if method in ("POST", "PUT") else None
    for role in ROLES:
        status, text = secure.rest(method, path, body, secure.tokens[role])
        if role in may:
            assert status not in (401, 403), f"{role}: {status} {text}"
        else:
            assert status == 403 and role in json.loads(text)["reason"], f"{role}: {status} {text}"
    assert secure.rest(method, path, body)[0] == 401


def sink(topic, **more):
    return {"name": "s", "inputs": [topic], "sinkType": "data-generator", **more}


@pytest.mark.parametrize("config,refused", [
    (sink("persistent://other/ns/t"), "consume from persistent://other/ns/t"),
    ({"name": "s", "topicsPattern": "persistent://other/ns/.*", "sinkType": "data-generator"}, "consume from"),
    ({"name": "s", "inputSpecs": {"persistent://other/ns/t": {}}, "sinkType": "data-generator"}, "consume from"),
    ({"name": "s", "inputSpecs": "{\"persistent://other/ns/t\": {}}", "sinkType": "data-generator"}, "consume from"),
    (sink("t", deadLetterTopic="persistent://other/ns/letters"), "produce to persistent://other/ns/letters"),
    (sink("t", deadLetterTopic="persistent://public/default/letters"), "produce to")])
def test_a_component_is_no_way_around_the_rights_to_topics(secure, config, refused):
    """It works with the worker's rights, which are more than its maker's."""
    for method in ("POST", "PUT"):
        status, text = secure.rest(method, "/admin/v3/sinks/public/default/s", config, secure.tokens["sinker"])
        assert status == 403 and refused in json.loads(text)["reason"], text


def test_a_component_of_others_cannot_be_turned_around(secure):
    """Who may not read a topic may not make somebody else's sink write it elsewhere."""
    path = "/admin/v3/sinks/public/default/theirs"
    config = {**sink("persistent://other/ns/t"), "name": "theirs"}
    assert secure.rest("POST", path, config, secure.tokens["admin"])[0] == 204
    for role, status in (("sinker", 403), ("boss", 403), ("admin", 204)):
        answered, text = secure.rest("PUT", path, {"parallelism": 2}, secure.tokens[role])
        assert answered == status, f"{role}: {answered} {text}"
    assert secure.rest("DELETE", path, None, secure.tokens["admin"])[0] == 204


def test_a_role_that_may_makes_a_sink_and_the_audit_says_so(secure):
    path = "/admin/v3/sinks/public/default/made"
    assert secure.rest("POST", path, {**sink("t"), "name": "made"}, secure.tokens["sinker"])[0] == 204
    assert secure.rest("PUT", path, {"parallelism": 2}, secure.tokens["boss"])[0] == 204
    assert secure.rest("DELETE", path, None, secure.tokens["sinker"])[0] == 204
    assert secure.rest("DELETE", path, None, secure.tokens["sinker"])[0] == 404
    lines = [line for line in secure.broker.process.output().splitlines() if "audit" in line and path in line]
    assert len(lines) == 4, lines
    assert re.search(r'POST \S+ by "sinker" from 127\.0\.0\.1:\d+: 204; given .*inputs', lines[0])
    assert 'by "boss"' in lines[1] and "parallelism: 1 -> 2" in lines[1]
    assert "404" in lines[3] and "doesn't exist" in lines[3]
