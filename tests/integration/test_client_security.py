"""Our client with TLS and authentication: `hulse client` and local runs against a broker that asks for both."""
import json
import os
import subprocess

import pytest

from support import HULSE, free_port, wait_until

SUBJECT = "/CN="


def openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificate(folder, name, extension=None):
    """name.pem and name.key, signed by the authority of the folder."""
    openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
            "-subj", SUBJECT + name)
    signing = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
               "-days", "2", "-out", f"{name}.pem"]
    if extension:
        (folder / f"{name}.ext").write_text(f"subjectAltName={extension}\n")
        signing += ["-extfile", f"{name}.ext"]
    openssl(folder, *signing)


@pytest.fixture(scope="module")
def secured(module_workshop):
    """A broker with TLS whose users are known by token, password or certificate."""
    folder = module_workshop.folder
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=authority")
    certificate(folder, "broker", "DNS:localhost")
    certificate(folder, "alice")
    password = subprocess.run(["openssl", "passwd", "-apr1", "sesame"], check=True, capture_output=True, text=True)
    (folder / "users").write_text(f"alice:{password.stdout}")
    subprocess.run([HULSE, "tokens", "create-secret-key", "--output", folder / "secret"], check=True)
    ports = free_port(), free_port()
    broker = module_workshop.standalone(arguments=[
        "--broker-port-tls", ports[0], "--web-port-tls", ports[1], "--advertised-address", "localhost",
        "--tls-certificate-file-path", folder / "broker.pem", "--tls-key-file-path", folder / "broker.key",
        "--tls-trust-certs-file-path", folder / "ca.pem", "--authentication-enabled", "true", "--authentication-refresh-check-seconds", 1,
        "--authentication-providers", "token,basic,tls", "--token-secret-key", f"file://{folder}/secret",
        "--basic-auth-conf", f"file://{folder}/users", "--authorization-enabled", "true", "--super-user-roles", "alice"])
    broker.folder = folder
    broker.tls = f"pulsar+ssl://localhost:{ports[0]}"
    broker.https = f"https://localhost:{ports[1]}"
    return broker


def token(broker, subject, *words):
    made = subprocess.run([HULSE, "tokens", "create", "--secret-key", f"file://{broker.folder}/secret", "--subject",
                           subject, *words], check=True, capture_output=True, text=True)
    return made.stdout.strip()


def trusting(broker):
    return ["--url", broker.tls, "--tls-trust-cert-path", broker.folder / "ca.pem"]


def produce(topic, *words, environment=None):
    done = subprocess.run([HULSE, "client", "produce", topic, "-m", "x", *[str(word) for word in words]],
                          capture_output=True, text=True, timeout=60, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_a_token_lets_in_over_tls_in_every_form(secured, topic, tmp_path):
    given = token(secured, "alice")
    (tmp_path / "token").write_text(given + "\n")
    for params in (f"token:{given}", given, json.dumps({"token": given}), f"file://{tmp_path}/token"):
        status, said = produce(topic, *trusting(secured), "--auth-plugin", "token", "--auth-params", params)
        assert status == 0, said
    status, said = produce(topic, *trusting(secured), "--auth-plugin",
                           "org.apache.pulsar.client.impl.auth.AuthenticationToken", "--auth-params", "env:MY_TOKEN",
                           environment={**os.environ, "MY_TOKEN": given})
    assert status == 0, said


def test_a_password_and_a_certificate_let_in_too(secured, topic):
    status, said = produce(topic, *trusting(secured), "--auth-plugin", "basic", "--auth-params",
                           json.dumps({"userId": "alice", "password": "sesame"}))
    assert status == 0, said
    status, said = produce(topic, *trusting(secured), "--auth-plugin", "tls", "--auth-params",
                           f"tlsCertFile:{secured.folder}/alice.pem,tlsKeyFile:{secured.folder}/alice.key")
    assert status == 0, said


@pytest.mark.parametrize("plugin, params, said", [
    (None, None, "Failed to authenticate"),
    ("token", "token:nonsense", "AuthenticationError"),
    ("basic", '{"userId": "alice", "password": "open"}', "AuthenticationError"),
    ("token", "file:///nowhere/token", "/nowhere/token"),
    ("token", "env:HULSE_NO_SUCH_TOKEN", "HULSE_NO_SUCH_TOKEN"),
    ("kerberos", "x", "token, basic and tls"),
])
def test_who_is_not_let_in_is_told_why_and_no_secret(secured, topic, plugin, params, said):
    words = ["--auth-plugin", plugin, "--auth-params", params] if plugin else []
    status, output = produce(topic, *trusting(secured), *words)
    assert status == 1
    assert said.lower() in output.lower() or plugin != "kerberos" and "authenticat" in output.lower(), output
    assert "sesame" not in output and "nonsense" not in output and "open\"" not in output


def test_a_role_without_rights_is_refused(secured, topic):
    status, said = produce(topic, *trusting(secured), "--auth-plugin", "token", "--auth-params",
                           "token:" + token(secured, "bob"))
    assert status == 1 and "AuthorizationError" in said, said


def test_the_server_must_be_the_one_that_was_called(secured, topic):
    login = ["--auth-plugin", "token", "--auth-params", "token:" + token(secured, "alice")]
    other_name = secured.tls.replace("localhost", "127.0.0.1")
    ca = ["--tls-trust-cert-path", secured.folder / "ca.pem"]
    status, said = produce(topic, "--url", other_name, *ca, *login)
    assert status == 1 and "certificate" in said.lower(), said
    status, said = produce(topic, "--url", other_name, *ca, *login, "--tls-enable-hostname-verification=false")
    assert status == 0, said
    status, said = produce(topic, "--url", secured.tls, *login)
    assert status == 1 and "certificate" in said.lower(), said
    status, said = produce(topic, "--url", secured.tls, *login, "--tls-allow-insecure")
    assert status == 0, said


def test_a_lookup_over_https_uses_the_same_settings(secured, topic):
    login = ["--auth-plugin", "token", "--auth-params", "token:" + token(secured, "alice")]
    ca = ["--tls-trust-cert-path", secured.folder / "ca.pem"]
    status, said = produce(topic, "--url", secured.https, *ca, *login)
    assert status == 0, said
    status, said = produce(topic, "--url", secured.https, *login)
    assert status == 1 and "certificate" in said.lower(), said


def test_a_client_conf_gives_what_the_flags_leave_out(secured, topic, tmp_path):
    conf = tmp_path / "client.conf"
    conf.write_text(f"""# of this cluster
webServiceUrl={secured.https}
brokerServiceUrl={secured.tls}
authPlugin=org.apache.pulsar.client.impl.auth.AuthenticationToken
authParams=token:{token(secured, "alice")}
tlsTrustCertsFilePath={secured.folder}/ca.pem
tlsAllowInsecureConnection=false
tlsEnableHostnameVerification=true
""")
    status, said = produce(topic, "--client-conf", conf)
    assert status == 0, said
    status, said = produce(topic, environment={**os.environ, "PULSAR_CLIENT_CONF": str(conf)})
    assert status == 0, said
    status, said = produce(topic, "--client-conf", conf, "--auth-params", "token:" + token(secured, "bob"))
    assert status == 1, said


def test_a_token_that_is_renewed_in_its_file_keeps_the_connection(secured, topic, tmp_path):
    file = tmp_path / "token"
    file.write_text(token(secured, "alice", "--expiry-time", "3s"))
    consumer = secured.workshop.start("client", "consume", topic, "-s", "s", "-n", "2", *trusting(secured),
                                      "--auth-plugin", "token", "--auth-params", f"file://{file}")
    login = ["--auth-plugin", "token", "--auth-params", "token:" + token(secured, "alice")]

    def arrives(text):
        status, said = produce(topic, *trusting(secured), *login)
        assert status == 0, said
        return text in consumer.output()
    wait_until(lambda: arrives("content:x"), "the first message arrives")
    # The old token runs out; the broker asks for another one on the same connection.
    file.write_text(token(secured, "alice"))
    expired = token(secured, "alice", "--expiry-time", "3s")
    wait_until(lambda: produce(topic, *trusting(secured), "--auth-plugin", "token", "--auth-params",
                               f"token:{expired}")[0] == 1, "a token of that age is refused")
    wait_until(lambda: not consumer.running() or arrives("2 messages"), "the second message arrives")
    assert "2 messages successfully consumed" in consumer.output()
    assert "trying again" not in consumer.output() and " again" not in consumer.output()


def test_a_local_run_logs_in(secured, topic, tmp_path):
    out = tmp_path / "out.txt"
    login = ["--auth-plugin", "token", "--auth-params", "token:" + token(secured, "alice")]
    sink = secured.workshop.start(
        "sinks", "localrun", "--sink-type", "file", "--name", "logs-in", "--inputs", topic, "--subs-position", "Earliest",
        "--sink-config", json.dumps({"path": str(out), "format": "raw"}),
        "--broker-service-url", secured.tls.replace("pulsar+ssl", "pulsar"), "--use-tls",
        "--tls-trust-cert-path", secured.folder / "ca.pem",
        "--client-auth-plugin", "token", "--client-auth-params", "token:" + token(secured, "alice"))
    status, said = produce(topic, *trusting(secured), *login)
    assert status == 0, said
    wait_until(lambda: out.exists() and out.read_text() == "x\n", "the sink has written the message")
    assert sink.stop()[1] == 0, sink.output()
