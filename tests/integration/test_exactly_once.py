"""Sources under EFFECTIVELY_ONCE: every record is in the topic, and none is there twice, whatever is killed."""
import json
import random

import pulsar
import pytest

from support import WorkerProcess, wait_until
from test_broker_features import admin as rest
from test_worker import Admin

RECEIVE_MS = 30000
# As many as take some seconds, so that the kills come in the middle.
RECORDS = 5000


@pytest.fixture
def seed():
    number = random.randrange(1 << 32)
    print(f"seed {number}")
    random.seed(number)
    return number


def create(admin, topic, guarantee, *arguments, records=RECORDS):
    admin("sources", "create", "--name", "people", "--source-type", "data-generator", "--destination-topic-name", topic,
          "--processing-guarantees", guarantee, "--source-config",
          json.dumps({"sleepBetweenMessages": 1, "records": records, "numbered": True}), *arguments)


def status(admin):
    return [one["status"] for one in json.loads(admin("sources", "status", "--name", "people"))["instances"]]


def written(admin):
    try:
        return sum(one["numWritten"] for one in status(admin))
    except AssertionError:  # it is being started
        return 0


def read_all(connect, url, topic):
    """The keys of each partition, in its order."""
    client = connect(url)
    partitions = client.get_topic_partitions(topic)
    keys = []
    for partition in partitions:
        reader = client.create_reader(partition, pulsar.MessageId.earliest)
        read = []
        while reader.has_message_available():
            message = reader.read_next(RECEIVE_MS)
            assert "__hulse_pos" not in message.properties()
            read.append(message.partition_key())
        keys.append(read)
    client.close()
    return keys


def wait_stored(connect, url, topic, records, instances=1):
    """Until the last record of each instance is in the topic."""
    last = {f"{instance}-{records - 1}" for instance in range(instances)}
    wait_until(lambda: last <= {key for partition in read_all(connect, url, topic) for key in partition}, "the last ones are stored")


def goes_on(admin):
    enough = written(admin) + random.randrange(1, 300)
    wait_until(lambda: written(admin) > enough, "it goes on")


def check(keys, records, instances=1):
    """Each once, and those of an instance in order wherever they lie."""
    everything = [key for partition in keys for key in partition]
    expected = {f"{instance}-{number}" for instance in range(instances) for number in range(records)}
    assert set(everything) == expected, "lost, or never made"
    assert len(everything) == len(expected), f"{len(everything) - len(expected)} duplicates"
    for partition in keys:
        for instance in range(instances):
            numbers = [int(key.split("-")[1]) for key in partition if key.startswith(f"{instance}-")]
            assert numbers == sorted(numbers), "out of order"


@pytest.mark.parametrize("partitions", [0, 3])
def test_a_killed_standalone_stores_every_record_once(workshop, connect, seed, partitions):
    broker = workshop.standalone()
    admin = Admin(workshop, broker)
    if partitions:
        assert rest(broker, "PUT", "persistent/public/default/t/partitions", partitions)[0] == 204
    # Without a subscription what is stored would be trimmed.
    connect(broker.url).subscribe("t", "keep")
    create(admin, "t", "EFFECTIVELY_ONCE", "--parallelism", "2")
    for _ in range(6):
        goes_on(admin)
        broker.kill()
        broker.start()
    wait_stored(connect, broker.url, "t", RECORDS, instances=2)
    check(read_all(connect, broker.url, "t"), RECORDS, instances=2)
    assert sum(one["hulse"]["alreadyStored"] for one in status(admin)) > 0, "no kill came between data and offset"


@pytest.mark.parametrize("whom", ["worker", "broker"])
def test_a_worker_or_the_broker_below_it_is_killed(workshop, connect, seed, whom):
    broker = workshop.standalone(arguments=("--functions-worker-enabled", "false"))
    connect(broker.url).subscribe("t", "keep")
    worker = WorkerProcess(workshop, broker.url)
    admin = Admin(workshop, worker)
    wait_until(lambda: worker.get("v2/worker/cluster/leader"), "it leads")
    create(admin, "t", "EFFECTIVELY_ONCE")
    victim = worker if whom == "worker" else broker
    for _ in range(5):
        goes_on(admin)
        victim.kill()
        victim.start()
    wait_stored(connect, broker.url, "t", RECORDS)
    check(read_all(connect, broker.url, "t"), RECORDS)


def test_at_least_once_goes_on_where_it_was(workshop, connect, seed):
    broker = workshop.standalone()
    admin = Admin(workshop, broker)
    connect(broker.url).subscribe("t", "keep")
    create(admin, "t", "ATLEAST_ONCE")
    kills = 3
    for _ in range(kills):
        goes_on(admin)
        broker.kill()
        broker.start()
    wait_stored(connect, broker.url, "t", RECORDS)
    keys = [key for partition in read_all(connect, broker.url, "t") for key in partition]
    assert set(keys) == {f"0-{number}" for number in range(RECORDS)}
    # A kill costs what was on its way, not everything from the beginning.
    assert len(keys) - RECORDS < kills * 1000


def test_a_source_that_comes_back_goes_on_and_one_that_is_dropped_begins_anew(workshop, connect):
    broker = workshop.standalone()
    admin = Admin(workshop, broker)
    connect(broker.url).subscribe("t", "keep")
    create(admin, "t", "EFFECTIVELY_ONCE", records=100)
    wait_until(lambda: written(admin) == 100, "all are stored")
    admin("sources", "delete", "--name", "people")
    create(admin, "t", "EFFECTIVELY_ONCE", records=150)
    wait_until(lambda: written(admin) >= 50, "the others are stored")
    wait_until(lambda: len(read_all(connect, broker.url, "t")[0]) == 150, "150 are there")
    check(read_all(connect, broker.url, "t"), 150)
    admin("sources", "delete", "--name", "people", "--drop-offset")
    create(admin, "t", "ATLEAST_ONCE", records=10)
    wait_until(lambda: len(read_all(connect, broker.url, "t")[0]) == 160, "ten more are there")


def test_a_stretch_that_was_trimmed_is_said_and_not_passed_over(workshop, connect):
    broker = workshop.standalone()
    admin = Admin(workshop, broker)
    client = connect(broker.url)
    consumer = client.subscribe("t", "keep")
    create(admin, "t", "EFFECTIVELY_ONCE", records=100)
    wait_until(lambda: written(admin) == 100, "all are stored")
    admin("sources", "stop", "--name", "people")
    consumer.close()
    assert rest(broker, "DELETE", "persistent/public/default/t?force=true")[0] == 204
    admin("sources", "update", "--name", "people", "--source-config",
          json.dumps({"sleepBetweenMessages": 0, "records": 120, "numbered": True}))
    connect(broker.url).create_producer("t").send(b"somebody else's")
    admin("sources", "start", "--name", "people")
    wait_until(lambda: "possible duplicates" in json.dumps(status(admin)[0]["latestSourceExceptions"]), "it is said")
    wait_stored(connect, broker.url, "t", 120)
    said = [one for one in status(admin)[0]["latestSourceExceptions"] if "possible duplicates" in one["exceptionString"]]
    assert len(said) == 1, "it is said once"
