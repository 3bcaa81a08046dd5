"""TLS, authentication and authorization of the broker, with the PyPI client and openssl's certificates."""
import base64
import json
import ssl
import subprocess
import urllib.error
import urllib.request

import pulsar
import pytest

from support import HULSE, free_port, wait_until


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def authority(folder, name):
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}", "-keyout",
            f"{name}.key", "-out", f"{name}.pem", cwd=folder)


def certificate(folder, name, common_name, signer, days="30"):
    (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={common_name}", "-keyout", f"{name}.key", "-out",
            f"{name}.csr", cwd=folder)
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key",
            "-CAcreateserial", "-days", days, "-extfile", f"{name}.ext", "-out", f"{name}.pem", cwd=folder)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    authority(folder, "ca")
    authority(folder, "stranger")
    certificate(folder, "server", "localhost", "ca")
    certificate(folder, "client", "robot", "ca")
    certificate(folder, "imposter", "admin", "stranger")
    return folder


class Secure:
    """A broker that asks who is there: token, password or certificate."""

    def __init__(self, workshop, certificates):
        self.folder = workshop.folder
        self.certificates = certificates
        self.key = self.folder / "secret.key"
        workshop.run("tokens", "create-secret-key", "--output", str(self.key))
        (self.folder / "passwd").write_text("ann:" + subprocess.run(
            ["openssl", "passwd", "-apr1", "apple"], capture_output=True, text=True, check=True).stdout)
        self.tls_port, self.web_tls_port = free_port(), free_port()
        settings = {
            "advertisedAddress": "localhost", "brokerServicePortTls": self.tls_port,
            "webServicePortTls": self.web_tls_port, "tlsCertificateFilePath": str(certificates / "server.pem"),
            "tlsKeyFilePath": str(certificates / "server.key"), "tlsTrustCertsFilePath": str(certificates / "ca.pem"),
            "authenticationEnabled": True, "authorizationEnabled": True, "superUserRoles": ["admin"],
            "tokenSecretKey": f"file://{self.key}", "basicAuthConf": str(self.folder / "passwd"),
            "authenticationRefreshCheckSeconds": 1}
        config = workshop.file("secure.yaml", json.dumps(settings))
        self.broker = workshop.standalone(arguments=["--config", str(config)])
        self.tls_url = f"pulsar+ssl://localhost:{self.tls_port}"

    def token(self, role, *more):
        return subprocess.run([HULSE, "tokens", "create", "--subject", role, "--secret-key", f"file://{self.key}", *more],
                              capture_output=True, text=True, check=True).stdout.strip()

    def rest(self, method, path, body=None, credentials=None, tls=None):
        url = f"https://localhost:{self.web_tls_port}" if tls else self.broker.web
        headers = {"Content-Type": "application/json"}
        if credentials:
            headers["Authorization"] = credentials
        request = urllib.request.Request(url + path, method=method, headers=headers,
                                         data=None if body is None else json.dumps(body).encode())
        handlers = [urllib.request.ProxyHandler({})] + ([urllib.request.HTTPSHandler(context=tls)] if tls else [])
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def grant(self, role, *actions):
        status, text = self.rest("POST", f"/admin/v2/namespaces/public/default/permissions/{role}", list(actions),
                                 "Bearer " + self.token("admin"))
        assert status == 204, text


@pytest.fixture(scope="module")
def secure(module_workshop, certificates):
    return Secure(module_workshop, certificates)


@pytest.fixture
def connect(connect):
    """Clients that do not try for long: they repeat what the broker refuses."""
    def make(url, **settings):
        return connect(url, **{"operation_timeout_seconds": 2, **settings})
    return make


def produce(client, topic, text=b"x"):
    producer = client.create_producer(topic)
    producer.send(text)
    producer.close()


def test_who_says_nothing_is_refused(secure, connect, topic):
    with pytest.raises(pulsar.PulsarException):
        produce(connect(secure.broker.url), topic)
    assert secure.rest("GET", "/admin/v2/tenants")[0] == 401
    assert secure.rest("PUT", "/admin/v2/tenants/t", {})[0] == 401
    # What probes and metrics read is open.
    assert secure.rest("GET", "/ready")[0] == 200


def test_tokens_and_grants(secure, connect, topic):
    client = connect(secure.broker.url, authentication=pulsar.AuthenticationToken(secure.token("writer")))
    with pytest.raises(pulsar.PulsarException):
        produce(client, topic)
    secure.grant("writer", "produce")
    produce(client, topic, b"allowed")
    with pytest.raises(pulsar.PulsarException):
        client.subscribe(topic, "s")
    secure.grant("reader", "consume")
    reader = connect(secure.broker.url, authentication=pulsar.AuthenticationToken(secure.token("reader")))
    consumer = reader.subscribe(topic, "s", initial_position=pulsar.InitialPosition.Earliest)
    assert consumer.receive(20_000).data() == b"allowed"
    with pytest.raises(pulsar.PulsarException):
        produce(reader, topic)


def test_a_forged_token_is_refused(secure, connect, topic):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
    for head in ({"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256"}):
        forged = f"{part(head)}.{part({'sub': 'admin'})}."
        assert secure.rest("GET", "/admin/v2/tenants", credentials="Bearer " + forged)[0] == 401
        with pytest.raises(pulsar.PulsarException):
            produce(connect(secure.broker.url, authentication=pulsar.AuthenticationToken(forged)), topic)
    status, text = secure.rest("GET", "/admin/v2/tenants", credentials="Bearer " + secure.token("admin") + "x")
    assert status == 401 and "signature" in text


def test_passwords(secure, connect, topic):
    secure.grant("ann", "produce")
    produce(connect(secure.broker.url, authentication=pulsar.AuthenticationBasic("ann", "apple")), topic)
    with pytest.raises(pulsar.PulsarException):
        produce(connect(secure.broker.url, authentication=pulsar.AuthenticationBasic("ann", "pear")), topic)
    basic = "Basic " + base64.b64encode(b"ann:apple").decode()
    assert secure.rest("GET", "/admin/v2/namespaces/public/default/topics", credentials=basic)[0] == 200
    assert secure.rest("GET", "/admin/v2/tenants", credentials=basic)[0] == 403


def test_client_certificates_over_tls(secure, connect, topic, certificates):
    secure.grant("robot", "produce", "consume")
    identity = pulsar.AuthenticationTLS(str(certificates / "client.pem"), str(certificates / "client.key"))
    client = connect(secure.tls_url, authentication=identity, tls_trust_certs_file_path=str(certificates / "ca.pem"),
                     tls_validate_hostname=True)
    consumer = client.subscribe(topic, "s")
    large = bytes(range(256)) * 4000
    produce(client, topic, large)
    assert consumer.receive(20_000).data() == large
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(str(certificates / "client.pem"), str(certificates / "client.key"))
    assert secure.rest("GET", "/admin/v2/namespaces/public/default/topics", tls=context)[0] == 200
    assert secure.rest("GET", "/admin/v2/tenants", tls=context)[0] == 403


def test_a_stranger_s_certificate_is_no_identity(secure, connect, topic, certificates):
    identity = pulsar.AuthenticationTLS(str(certificates / "imposter.pem"), str(certificates / "imposter.key"))
    client = connect(secure.tls_url, authentication=identity, tls_trust_certs_file_path=str(certificates / "ca.pem"))
    with pytest.raises(pulsar.PulsarException):
        produce(client, topic)


def test_a_client_does_not_trust_another_authority(secure, connect, topic, certificates):
    client = connect(secure.tls_url, authentication=pulsar.AuthenticationToken(secure.token("admin")),
                     tls_trust_certs_file_path=str(certificates / "stranger.pem"))
    with pytest.raises(pulsar.PulsarException):
        produce(client, topic)


def test_an_expired_token_is_renewed_or_let_go(secure, connect, topic):
    asked = []

    def supplier():
        asked.append(1)
        return secure.token("admin", "--expiry-time", "2s")
    client = connect(secure.broker.url, authentication=pulsar.AuthenticationToken(supplier))
    producer = client.create_producer(topic)
    wait_until(lambda: producer.send(b"x") and len(asked) >= 3, "the client was asked for fresh tokens")
    # Whoever has no fresh one is cut off, and not let in again.
    stale = connect(secure.broker.url, authentication=pulsar.AuthenticationToken(
        secure.token("admin", "--expiry-time", "1s")))
    producer = stale.create_producer(topic, send_timeout_millis=1000)

    def refused():
        try:
            producer.send(b"x")
        except pulsar.PulsarException:
            return True
    wait_until(refused, "the stale client is refused")


# Every path with every kind of role: what is not granted is refused.
PATHS = [
    ("GET", "/admin/v2/tenants", "super"), ("PUT", "/admin/v2/tenants/fresh", "super"),
    ("GET", "/admin/v2/namespaces/public", "admin"), ("PUT", "/admin/v2/namespaces/public/fresh", "admin"),
    ("GET", "/admin/v2/namespaces/public/default", "admin"),
    ("GET", "/admin/v2/namespaces/public/default/topics", "consume"),
    ("POST", "/admin/v2/namespaces/public/default/messageTTL", "admin"),
    ("POST", "/admin/v2/namespaces/public/default/permissions/x", "admin"),
    ("PUT", "/admin/v2/persistent/public/default/fresh", "admin"),
    ("DELETE", "/admin/v2/persistent/public/default/fresh", "admin"),
    ("GET", "/admin/v2/persistent/public/default/known/stats", "consume"),
    ("POST", "/admin/v2/persistent/public/default/known/subscription/s/skip_all", "consume"),
    ("PUT", "/admin/v2/persistent/public/default/known/unload", "admin"),
    ("POST", "/admin/v2/persistent/public/default/known/terminate", "admin"),
    ("GET", "/admin/v2/schemas/public/default/known/schema", "consume"),
    ("DELETE", "/admin/v2/schemas/public/default/known/schema", "admin"),
    ("GET", "/lookup/v2/topic/persistent/public/default/known", "consume"),
    ("POST", "/admin/anything/else", "super"),
]


@pytest.mark.parametrize("method,path,least", PATHS)
def test_what_a_role_may_call(secure, method, path, least):
    admin = "Bearer " + secure.token("admin")
    assert secure.rest("POST", "/admin/v2/tenants/public", {"adminRoles": ["boss"]}, admin)[0] == 204
    secure.grant("eater", "consume")
    order = ["nobody", "consume", "admin", "super"]
    for role, rank in [("nobody", "nobody"), ("eater", "consume"), ("boss", "admin"), ("admin", "super")]:
        if order.index(rank) >= order.index(least):
            continue
        status, text = secure.rest(method, path, credentials="Bearer " + secure.token(role))
        assert status == 403 and role in json.loads(text)["reason"], f"{role}: {status} {text}"
    assert secure.rest(method, path)[0] == 401


def test_a_remote_address_needs_authentication(workshop):
    refused = workshop.run("standalone", "--data-dir", str(workshop.folder / "d"), "--bind", "0.0.0.0")
    assert refused.returncode == 1
    assert "authenticationEnabled" in refused.stderr and "--unauthenticated-remote-access" in refused.stderr
    assert not (workshop.folder / "d").exists()


def test_all_problems_of_a_configuration_at_once(workshop):
    config = workshop.file("bad.yaml", json.dumps({
        "brokerServicePortTls": 6651, "authorizationEnabled": True, "tlsRequireTrustedClientCertOnConnect": True}))
    refused = workshop.run("standalone", "--config", str(config))
    assert refused.returncode == 1
    for word in ("tlsCertificateFilePath", "tlsTrustCertsFilePath", "authenticationEnabled", "superUserRoles"):
        assert word in refused.stderr


def test_a_renewed_certificate_is_taken_up_without_a_restart(workshop, certificates):
    files = {kind: workshop.folder / f"own.{kind}" for kind in ("pem", "key")}

    def put(name):
        for kind, file in files.items():
            fresh = file.with_suffix(".new")
            fresh.write_bytes((certificates / f"{name}.{kind}").read_bytes())
            fresh.replace(file)
    put("server")
    certificate(certificates, "renewed", "localhost", "ca")
    ports = [free_port(), free_port()]
    broker = workshop.standalone(arguments=[
        "--broker-port-tls", ports[0], "--web-port-tls", ports[1], "--tls-certificate-file-path", files["pem"],
        "--tls-key-file-path", files["key"]])

    def shown():
        return {ssl.get_server_certificate(("localhost", port), ca_certs=str(certificates / "ca.pem")) for port in ports}

    def of(name):
        return {ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert((certificates / f"{name}.pem").read_text()))}
    assert shown() == of("server")
    put("renewed")
    wait_until(lambda: shown() == of("renewed"), "both ports show the new one")
    files["pem"].write_text("no certificate")
    wait_until(lambda: shown() and broker.process.output().count("the new certificate is not used") >= 2,
               "both ports say what is wrong")
    assert shown() == of("renewed"), "the old one stays in use"
