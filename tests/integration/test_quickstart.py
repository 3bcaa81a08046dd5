"""`make quickstart` (its script): it shows what it promises, and leaves nothing behind however it ends."""
import os
import pathlib
import signal
import subprocess
import tempfile

import pytest

from support import BUILD, ROOT, Process, wait_until


@pytest.fixture
def scratch():
    with tempfile.TemporaryDirectory(prefix="hulse-") as folder:
        yield pathlib.Path(folder)


def start(scratch):
    work = scratch / "tmp"
    work.mkdir()
    return Process([ROOT / "tools/quickstart.sh"], scratch / "log", cwd="/",
                   env={"TMPDIR": str(work), "PRESET": BUILD.name}), work


def group_members(pgid):
    """Processes of the group that run: what a script left behind."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue  # it ended while we looked
            if int(fields[2]) == pgid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_it_shows_records_flowing_and_leaves_nothing(scratch):
    process, work = start(scratch)
    assert process.wait(120) == 0, process.output()
    packages = len(subprocess.run(["dpkg-query", "-W"], capture_output=True, text=True).stdout.splitlines())
    assert f"{packages} of {packages} lines" in process.output()
    assert group_members(process.popen.pid) == []
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(scratch, which):
    process, work = start(scratch)
    process.wait_for("ready")
    # As a terminal does it: the whole group gets Ctrl-C. The script's own children ignore SIGINT, being in its background.
    os.killpg(process.popen.pid, which)
    assert process.wait(30) == 128 + which, process.output()
    wait_until(lambda: group_members(process.popen.pid) == [], "its programs are gone")
    assert list(work.iterdir()) == []
