#!/usr/bin/env python3
"""The Go client's own test suite against the embedded broker.

Its module in the Go proxy carries tests, certificates and tokens; nothing of it is kept here. The tests say
localhost:6650, 6651, 8080 and 8443: those are replaced by free ports before they are compiled. What is left out, and
why, is in go_suite.skip. Ends with one line of counts, and with 1 if a test failed that is not in that file.

    tests/compat/go_suite.py                          all of it (about ten minutes)
    tests/compat/go_suite.py --run 'TestProducer.*'   a part
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))
from support import wait_until  # noqa: E402
MODULE = "github.com/apache/pulsar-client-go@v0.19.0"
CACHE = pathlib.Path(os.environ.get("HULSE_COMPAT_CACHE", pathlib.Path.home() / ".cache/hulse/go-suite"))
# In the place of the ports in the tests; not those of a Pulsar that may run here.
PORTS = {"6650": "26540", "6651": "26541", "8080": "26542", "8443": "26543"}
RESULT = re.compile(r"^--- (PASS|FAIL|SKIP): (\S+)", re.M)


def source():
    """The module's files with our ports, and the compiled test program."""
    run, program = CACHE / "run", CACHE / "pulsar.test"
    if program.exists():
        return run, program
    CACHE.mkdir(parents=True, exist_ok=True)
    download = subprocess.run(["go", "mod", "download", "-json", MODULE], cwd=CACHE, capture_output=True, text=True)
    if download.returncode != 0:
        print(f"SKIPPED: {MODULE} cannot be had here: {download.stderr.strip() or download.stdout.strip()}")
        sys.exit(77)
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(json.loads(download.stdout)["Dir"], run)
    subprocess.run(["chmod", "-R", "u+w", run], check=True)
    for file in run.rglob("*.go"):
        text = file.read_text()
        changed = re.sub(r"localhost:(6650|6651|8080|8443)\b", lambda m: "localhost:" + PORTS[m[1]], text)
        if changed != text:
            file.write_text(changed)
    print("compiling the suite", flush=True)
    environment = {**os.environ, "GOFLAGS": os.environ.get("GOFLAGS", "") + " -mod=mod -buildvcs=false"}
    subprocess.run(["go", "test", "-c", "-o", program, "./pulsar"], cwd=run, env=environment, check=True)
    return run, program


def configuration(suite, data):
    return f"""
dataDir: {data}
advertisedAddress: localhost
brokerServicePort: {PORTS["6650"]}
brokerServicePortTls: {PORTS["6651"]}
webServicePort: {PORTS["8080"]}
webServicePortTls: {PORTS["8443"]}
maxMessageSize: 1048576
tlsCertificateFilePath: {suite}/certs/broker-cert.pem
tlsKeyFilePath: {suite}/certs/broker-key.pem
tlsTrustCertsFilePath: {suite}/certs/cacert.pem
authenticationEnabled: true
authenticationProviders: [tls, token, basic]
tokenSecretKey: file://{suite}/tokens/secret.key
basicAuthConf: {suite}/conf/.htpasswd
anonymousUserRole: anonymous
authorizationEnabled: true
superUserRoles: [localhost, superUser, admin]
subscriptionKeySharedUseConsistentHashing: false
backlogQuotaCheckIntervalInSeconds: 5

"""


def seed(token):
    """The tenants, namespaces and grants that the tests take for given."""
    def call(method, path, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORTS['8080']}/admin/v2/{path}", method=method, data=json.dumps(body).encode(),
            headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"})
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10)
        except urllib.error.HTTPError as refusal:
            # What is there already is as good.
            if refusal.code != 409:
                raise SystemExit(f"{method} {path}: {refusal.code} {refusal.read().decode()}")
    call("POST", "tenants/public", {"adminRoles": ["anonymous"], "allowedClusters": ["standalone"]})
    call("PUT", "tenants/private", {"adminRoles": [], "allowedClusters": ["standalone"]})
    for namespace, role in [("public/default", "anonymous"), ("public/default-2", "anonymous"),
                            ("public/default-3", "anonymous"), ("private/auth", "token-principal")]:
        call("PUT", f"namespaces/{namespace}", {})
        call("POST", f"namespaces/{namespace}/permissions/{role}", ["produce", "consume"])


def skipped():
    return [line.split()[0] for line in (HERE / "go_suite.skip").read_text().splitlines()
            if line.strip() and not line.startswith("#")]


def run_tests(program, folder, log, words):
    """Name -> PASS, FAIL or SKIP. A test that panics ends the program: the rest is run by another one."""
    results = {}
    log.write_text("")
    end = time.monotonic() + words.seconds
    while time.monotonic() < end:
        left_out = ([] if words.no_skip else skipped()) + list(results)
        command = [program, "-test.v", f"-test.timeout={int(end - time.monotonic())}s"]
        if left_out:
            command.append("-test.skip=^(" + "|".join(left_out) + ")$")
        if words.run:
            command.append("-test.run=" + words.run)
        begin = log.stat().st_size
        with open(log, "ab") as out:
            ended = subprocess.run(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT,
                                   env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"})
        text = log.read_bytes()[begin:].decode(errors="replace")
        results.update({name: kind for kind, name in RESULT.findall(text)})
        broken_off = set(re.findall(r"^=== RUN +(\w+)$", text, re.M)) - set(results)
        results.update({name: "FAIL" for name in broken_off})
        if ended.returncode == 0 or not re.search(r"^panic:", text, re.M):
            break
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--run", help="a regular expression of tests; all of them if not given")
    parser.add_argument("--no-skip", action="store_true", help="run those of go_suite.skip too")
    parser.add_argument("--log", type=pathlib.Path, help="where the suite's output goes")
    parser.add_argument("--seconds", type=int, default=1800)
    words = parser.parse_args()
    if shutil.which("go") is None:
        print("SKIPPED: there is no Go compiler here (apt-get install golang-go)")
        return 77
    run, program = source()
    suite = run / "integration-tests"
    work = pathlib.Path(tempfile.mkdtemp(prefix="hulse-go-suite-"))
    log = words.log or work / "suite.log"
    (work / "hulse.yaml").write_text(configuration(suite, work / "data"))
    with open(work / "hulse.log", "wb") as out:
        broker = subprocess.Popen([words.build / "bin/hulse", "standalone", "--config", work / "hulse.yaml"],
                                  stdout=out, stderr=out)
    try:
        wait_until(lambda: "is ready" in (work / "hulse.log").read_text() or broker.poll() is not None, "it is ready")
        if broker.poll() is not None:
            raise SystemExit("the broker did not start: " + (work / "hulse.log").read_text())
        seed((suite / "tokens/admin-token").read_text().strip())
        results = run_tests(program, run / "pulsar", log, words)
        alive = broker.poll() is None
    finally:
        broker.send_signal(signal.SIGTERM)
        broker.wait(timeout=20)
    count = {word: list(results.values()).count(word) for word in ("PASS", "FAIL", "SKIP")}
    failed = sorted(name for name, kind in results.items() if kind == "FAIL")
    for name in failed:
        print("failed:", name)
    print(f"Go client {MODULE.split('@')[1]}: {count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped "
          f"themselves, {len(skipped())} in go_suite.skip; log {log}, the broker's {work / 'hulse.log'}")
    if not alive:
        print("the broker ended by itself: see", work / "hulse.log")
    return 0 if results and not failed and alive else 1


if __name__ == "__main__":
    sys.exit(main())
