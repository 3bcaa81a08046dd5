#!/usr/bin/env python3
"""Apache Pulsar's own pulsar-admin and pulsar-perf (4.0.8, by Maven) against the embedded broker.

    tests/compat/java_tools.py [WORD]     all commands, or those that contain WORD

Each command of the list must end as it says. Ends with one line of counts, and with 1 if one did not.
"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SYSTEMS = ROOT / "tests/systems/systems"
sys.path.insert(0, str(ROOT / "tests/integration"))
from support import free_port, http_status, wait_until  # noqa: E402

TOPIC = "persistent://t1/n1/plain"
PARTED = "persistent://t1/n1/parted"
# Tool, arguments, then a word that the output must have; with "!" before it the command must fail and say so.
COMMANDS = [
    ("admin", "clusters list", "standalone"),
    ("admin", "clusters get standalone", "brokerServiceUrl"),
    ("admin", "brokers list standalone", ":"),
    ("admin", "brokers version", "Hulse"),
    ("admin", "brokers healthcheck", "ok"),
    ("admin", "brokers leader-broker", "serviceUrl"),
    ("admin", "brokers get-internal-config", "metadataStoreUrl"),
    ("admin", "brokers namespaces standalone --url {web}", "public/default"),
    ("admin", "tenants create t1 --admin-roles boss --allowed-clusters standalone", ""),
    ("admin", "tenants create t1", "!already exist"),
    ("admin", "tenants list", "t1"),
    ("admin", "tenants get t1", "boss"),
    ("admin", "tenants update t1 --admin-roles chief", ""),
    ("admin", "namespaces create t1/n1", ""),
    ("admin", "namespaces create t1/n1", "!already exists"),
    ("admin", "namespaces list t1", "t1/n1"),
    ("admin", "namespaces policies t1/n1", "bundles"),
    ("admin", "namespaces set-retention t1/n1 --size 10M --time 1h", ""),
    ("admin", "namespaces get-retention t1/n1", "60"),
    ("admin", "namespaces set-message-ttl t1/n1 --messageTTL 3600", ""),
    ("admin", "namespaces get-message-ttl t1/n1", "3600"),
    ("admin", "namespaces set-deduplication t1/n1 --enable", ""),
    ("admin", "namespaces get-deduplication t1/n1", "true"),
    ("admin", "namespaces set-schema-compatibility-strategy t1/n1 --compatibility BACKWARD", ""),
    ("admin", "namespaces get-schema-compatibility-strategy t1/n1", "BACKWARD"),
    ("admin", "namespaces set-backlog-quota t1/n1 --limit 1G --policy producer_exception", ""),
    ("admin", "namespaces get-backlog-quotas t1/n1", "producer_exception"),
    ("admin", "namespaces remove-backlog-quota t1/n1", ""),
    ("admin", "namespaces set-compaction-threshold t1/n1 --threshold 100M", ""),
    ("admin", "namespaces get-compaction-threshold t1/n1", "104857600"),
    ("admin", "namespaces set-max-unacked-messages-per-consumer t1/n1 -c 1000", ""),
    ("admin", "namespaces set-auto-topic-creation t1/n1 --enable --type non-partitioned", ""),
    ("admin", "namespaces get-auto-topic-creation t1/n1", "non-partitioned"),
    ("admin", "namespaces grant-permission t1/n1 --role app --actions produce,consume", ""),
    ("admin", "namespaces permissions t1/n1", "app"),
    ("admin", "namespaces revoke-permission t1/n1 --role app", ""),
    ("admin", "namespaces bundles t1/n1", "boundaries"),
    ("admin", f"topics create {TOPIC}", ""),
    ("admin", f"topics create {TOPIC}", "!already exists"),
    ("admin", f"topics create-partitioned-topic {PARTED} --partitions 3", ""),
    ("admin", f"topics update-partitioned-topic {PARTED} --partitions 4", ""),
    ("admin", f"topics get-partitioned-topic-metadata {PARTED}", "4"),
    ("admin", "topics list t1/n1", "plain"),
    ("admin", "topics list-partitioned-topics t1/n1", "parted"),
    ("admin", "namespaces topics t1/n1", "plain"),
    ("admin", f"topics lookup {TOPIC}", "pulsar://"),
    ("admin", f"topics partitioned-lookup {PARTED}", "pulsar://"),
    ("admin", f"topics bundle-range {TOPIC}", "0x"),
    ("admin", f"topics create-subscription {TOPIC} -s s1", ""),
    ("admin", f"topics subscriptions {TOPIC}", "s1"),
    ("perf", f"produce -u {{broker}} -r 1000 -m 2000 -s 100 {TOPIC}", ""),
    ("perf", f"produce -u {{broker}} -r 1000 -m 500 -s 100 {PARTED}", ""),
    # pulsar-perf sends one or two more than it was told.
    ("admin", f"topics stats {TOPIC}", "\"msgInCounter\" : 200"),
    ("admin", f"topics stats-internal {TOPIC}", "lastConfirmedEntry"),
    ("admin", f"topics partitioned-stats {PARTED}", "msgInCounter"),
    ("admin", f"topics last-message-id {TOPIC}", ":"),
    ("admin", f"topics peek-messages {TOPIC} -s s1 -n 2", "Message ID"),
    ("admin", f"topics skip {TOPIC} -s s1 -n 1", ""),
    ("admin", f"topics reset-cursor {TOPIC} -s s1 -m earliest", ""),
    ("perf", f"consume -u {{broker}} -ss s1 -m 1500 {TOPIC}", ""),
    ("admin", f"topics reset-cursor {TOPIC} -s s1 -t 1h", ""),
    ("admin", f"topics expire-messages {TOPIC} -s s1 -t 3600", ""),
    ("admin", f"topics clear-backlog {TOPIC} -s s1", ""),
    ("admin", f"topics compact {TOPIC}", ""),
    ("admin", f"topics compaction-status {TOPIC}", "ompact"),
    ("admin", f"topics unload {TOPIC}", ""),
    ("admin", f"topics unsubscribe {TOPIC} -s s1", ""),
    ("admin", f"topics terminate {TOPIC}", ":"),
    ("admin", f"topics delete {TOPIC}", ""),
    ("admin", f"topics delete {TOPIC}", "not found"),
    ("admin", f"topics delete-partitioned-topic {PARTED} -f", ""),
    ("admin", f"schemas get {TOPIC}", "!not found"),
    ("admin", f"schemas upload {TOPIC} -f {{schema}}", ""),
    ("admin", f"schemas get {TOPIC}", "AVRO"),
    ("admin", f"schemas delete {TOPIC}", ""),
    ("admin", "broker-stats topics", ""),
    ("admin", "broker-stats monitoring-metrics", ""),
    # The whole life of a source and of a sink.
    ("admin", "sources available-sources", "data-generator"),
    ("admin", "sinks available-sinks", "file"),
    ("admin", "sources reload", ""),
    ("admin", "sinks reload", ""),
    ("admin", "sources create --name gen --source-type data-generator --destination-topic-name people", "Created successfully"),
    ("admin", "sources create --name gen --source-type data-generator --destination-topic-name people", "!Source gen already exists"),
    ("admin", "sources create --name gen2 --source-type nosuch --destination-topic-name people", "!Invalid source type 'nosuch'"),
    ("admin", "sinks create --name out --sink-type file --inputs people --sink-config {sink_config}", "Created successfully"),
    ("admin", "sinks create --name out2 --sink-type file --inputs people --sink-config {bad_config}", "!did you mean path?"),
    ("admin", "sinks create --name out2 --sink-type file --sink-config {sink_config}", "!topic"),
    ("admin", "sources list", "gen"),
    ("admin", "sinks list", "out"),
    ("admin", "sources get --name gen", "builtin://data-generator"),
    ("admin", "sinks get --name out", "persistent://public/default/people"),
    ("admin", "sources status --name gen", "\"numRunning\" : 1"),
    ("admin", "sinks status --name out", "\"numRunning\" : 1"),
    ("admin", "sinks getstatus --name out --instance-id 0", "numWrittenToSink"),
    ("admin", "sinks update --name out --parallelism 2 --sink-config {two_config}", "Updated successfully"),
    ("admin", "sinks update --name out --parallelism 2", "!Update contains no change"),
    ("admin", "sinks update --name out --inputs other", "!Input Topics cannot be altered"),
    ("admin", "sinks status --name out", "\"numInstances\" : 2"),
    ("admin", "sinks stop --name out --instance-id 1", "Stopped successfully"),
    ("admin", "sinks start --name out --instance-id 1", "Started successfully"),
    ("admin", "sinks restart --name out", "Restarted successfully"),
    ("admin", "sources update --name gen --custom-runtime-options {options}", "Updated successfully"),
    ("admin", "sources stop --name gen", "Stopped successfully"),
    ("admin", "sources status --name gen", "\"numRunning\" : 0"),
    ("admin", "sources start --name gen", "Started successfully"),
    ("admin", "sources delete --name gen", "Delete source successfully"),
    ("admin", "sources status --name gen", "!Source gen doesn't exist"),
    ("admin", "sinks delete --name out", "Deleted successfully"),
    ("admin", "sinks get --name out", "!Sink out doesn't exist"),
    # The whole life of a function.
    ("admin", "functions list", ""),
    ("admin", "functions available-functions", "identity"),
    ("admin", "functions reload", ""),
    ("admin", "functions create --name fun --function-type identity --classname {identity} --inputs fin --output fout "
              "--user-config {counter}", "Created successfully"),
    ("admin", "functions create --name fun --function-type identity --classname {identity} --inputs fin --output fout",
     "!Function fun already exists"),
    ("admin", "functions create --name fun2 --function-type nosuch --classname {identity} --inputs fin", "!nosuch"),
    ("admin", "functions create --name fun2 --function-type identity --classname {identity} --inputs fin --output fin",
     "!is an input as well"),
    ("admin", "functions list", "fun"),
    ("admin", "functions get --name fun", "persistent://public/default/fin"),
    ("admin", "functions status --name fun", "\"numRunning\" : 1"),
    ("admin", "functions trigger --name fun --trigger-value hello", "hello"),
    ("admin", "functions trigger --name fun --trigger-file {schema}", "AVRO"),
    ("admin", "functions querystate --name fun --key seen", "\"numberValue\": 2"),
    ("admin", "functions putstate --name fun --state {state}", ""),
    ("admin", "functions querystate --name fun --key k", "\"stringValue\": \"v\""),
    ("admin", "functions querystate --name fun --key none", "!key 'none' doesn't exist."),
    ("admin", "functions stats --name fun", "\"processedSuccessfullyTotal\" : 2"),
    ("admin", "functions stats --name fun --instance-id 0", "\"receivedTotal\" : 2"),
    ("admin", "functions getstatus --name fun --instance-id 0", "numSuccessfullyProcessed"),
    ("admin", "functions update --name fun --parallelism 2", "Updated successfully"),
    ("admin", "functions update --name fun --inputs other", "!Input Topics cannot be altered"),
    ("admin", "functions stop --name fun", "Stopped successfully"),
    ("admin", "functions status --name fun", "\"numRunning\" : 0"),
    ("admin", "functions start --name fun", "Started successfully"),
    ("admin", "functions restart --name fun --instance-id 1", "Restarted successfully"),
    ("admin", "functions upload --source-file {schema} --path a/b/schema.json", "Uploaded successfully"),
    ("admin", "functions download --destination-file {fetched} --path a/b/schema.json", "Downloaded successfully"),
    ("admin", "functions delete --name fun", "Deleted successfully"),
    ("admin", "functions get --name fun", "!Function fun doesn't exist"),
    ("admin", "functions-worker get-cluster", "workerId"),
    ("admin", "functions-worker get-cluster-leader", "workerId"),
    ("admin", "functions-worker get-function-assignments", ""),
    ("admin", "functions-worker rebalance", ""),
    ("admin", "namespaces unload t1/n1", ""),
    ("admin", "namespaces delete t1/n1 -f", ""),
    ("admin", "tenants delete t1", ""),
]


def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    installed = subprocess.run([SYSTEMS, "install", "pulsar"], capture_output=True, text=True)
    if installed.returncode == 77:
        print(installed.stdout.strip() or installed.stderr.strip())
        return 77
    work = pathlib.Path(tempfile.mkdtemp(prefix="hulse-java-tools-"))
    (work / "schema.json").write_text(
        '{"type":"AVRO","schema":"{\\"type\\":\\"record\\",\\"name\\":\\"R\\",\\"fields\\":[]}","properties":{}}')
    port, web = free_port(), free_port()
    with open(work / "hulse.log", "wb") as out:
        broker = subprocess.Popen([ROOT / "build/release/bin/hulse", "standalone", "--data-dir", work / "data",
                                   "--broker-port", str(port), "--web-port", str(web)], stdout=out, stderr=out)
    failures = run = 0
    try:
        wait_until(lambda: http_status(f"http://127.0.0.1:{web}/ready") == 200, "the broker is ready")
        for tool, text, expected in COMMANDS:
            if word not in text:
                continue
            arguments = text.format(broker=f"pulsar://127.0.0.1:{port}", web=f"127.0.0.1:{web}", schema=work / "schema.json",
                                    sink_config='{"path":"%s/out"}' % work, two_config='{"path":"%s/out-{instance}"}' % work,
                                    identity="org.apache.pulsar.functions.api.utils.IdentityFunction",
                                    counter='{"counterKey":"seen"}', state='{"key":"k","stringValue":"v"}',
                                    fetched=work / "fetched", bad_config='{"pth":"x"}', options='{"restart.maxMs":1000}').split()
            if tool == "admin":
                arguments = ["--admin-url", f"http://127.0.0.1:{web}", *arguments]
            done = subprocess.run([SYSTEMS, f"pulsar-{tool}", *arguments], capture_output=True, text=True, timeout=120,
                                  env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"})
            said = done.stdout + done.stderr
            wants_failure = expected.startswith("!")
            good = (done.returncode != 0) == wants_failure and expected.removeprefix("!") in said
            run += 1
            if not good:
                failures += 1
                print(f"failed: {tool} {text}\n  status {done.returncode}, wanted {expected!r}: {said.strip()[-400:]}",
                      flush=True)
    finally:
        broker.send_signal(signal.SIGTERM)
        broker.wait(timeout=20)
    print(f"Apache Pulsar's tools: {run - failures} of {run} commands as expected")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
