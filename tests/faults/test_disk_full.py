"""The disk is full, again and again, under load and with kills in it (row 14 of docs/faults.md)."""
import errno
import os
import subprocess
import threading

import pytest

from checker import Taker, Writer, count, progress, read_all
from support import http_status, wait_until

TIMES = 2
DISK = "128m"


def fill(file, leave):
    """All of its disk but so much: whatever needs room next does not get it."""
    def filled():
        room = os.statvfs(file.parent)
        try:
            with open(file, "wb") as out:
                os.posix_fallocate(out.fileno(), 0, max(1, room.f_bavail * room.f_frsize - leave))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            return False  # the broker was faster
        return True
    wait_until(filled, "the disk is full")


def test_full_again_and_again(workshop, connect, topic, dice, rounds, capsys):
    folder = workshop.folder / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    filler = folder / "filler"
    try:
        broker = workshop.standalone(data=folder / "data")
        connect(broker.url).subscribe(topic, "keep").close()
        writers = [Writer(workshop, broker, topic, "batched"), Writer(workshop, broker, topic, "single", "--unbatched")]
        taker = Taker(workshop, broker, topic)
        times = TIMES * min(rounds, 5)
        for time in range(times):
            progress(writers, 100)
            fill(filler, leave=dice.randrange(0, 2 << 20))
            wait_until(lambda: http_status(broker.web + "/ready") == 503, "the broker says that it cannot store")
            if time % 2:
                taker.new_life()
                broker.kill()
                taker.new_life()
                broker.start(ready=False)
                # Where not a single block is left it says so and ends; with a little room it serves what it has.
                wait_until(lambda: not broker.process.running() or http_status(broker.web + "/ready") in (200, 503),
                           "it starts on the full disk, or says that it cannot")
                assert broker.process.running() or "No space left on device" in broker.process.output()
            threading.Event().wait(dice.uniform(0, 1))
            filler.unlink()
            if not broker.process.running():
                broker.start()
            wait_until(lambda: http_status(broker.web + "/ready") == 200, "there is room again, and it is seen")
            progress(writers, 100)
        for writer in writers:
            writer.finish()
        settled, again = taker.finish()
        assert settled and not again
        result = count(read_all(connect(broker.url), topic), writers)
        with capsys.disabled():
            print(f"\n  {times} times full: {result}; {settled} acknowledged for good", end="", flush=True)
        result.expect(duplicates=2 * 500 * times)
        broker.stop()
        checked = workshop.run("storage", "check", folder / "data")
        assert checked.returncode == 0, checked.stdout + checked.stderr
    finally:
        for process in workshop.processes:
            process.kill()
        subprocess.run(["umount", "-l", str(folder)], check=False)
