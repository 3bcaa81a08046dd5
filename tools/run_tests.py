#!/usr/bin/env python3
"""Runs the tests and says in one last line how many passed, failed and were skipped.

    run_tests.py --build build/release [--pytest tests] [--results FILE]
    run_tests.py --total FILE...

The first form runs every GoogleTest program under BUILD/tests and then pytest; a test counts as one
whichever of the two it belongs to. The second adds up what earlier runs wrote. The exit status is 0 only
when something passed and nothing failed.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
# A unit test program that runs longer hangs: it is ended and counted as failed.
PROGRAM_SECONDS = 300


@dataclasses.dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list = dataclasses.field(default_factory=list)
    skips: list = dataclasses.field(default_factory=list)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        self.skips += other.skips

    def line(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def read_junit(path, where):
    """The tally of a JUnit file as GoogleTest and pytest write it; None when there is no whole file."""
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return None
    tally = Tally()
    for case in root.iter("testcase"):
        name = f"{where}: {case.get('classname', '')}.{case.get('name', '')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failed += 1
            tally.failures.append(name)
        elif skip is not None or case.get("result") == "skipped":
            tally.skipped += 1
            reason = (skip.get("message") or "").strip() if skip is not None else ""
            tally.skips.append(f"{name}: {reason}")
        elif case.get("status") == "notrun" or case.get("result") == "suppressed":
            continue  # DISABLED_ or filtered out: no result of this run
        else:
            tally.passed += 1
    return tally


def run(command, log_path, seconds, environment):
    """Exit status of the command, whose output goes to a file. Its whole process group is ended at the limit."""
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   start_new_session=True, env=environment)
        try:
            return process.wait(timeout=seconds), False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait(), True


def tail(path, lines=60):
    text = path.read_text(errors="replace").splitlines()
    return "\n".join("    " + line for line in text[-lines:])


def run_programs(build, scratch, seconds):
    tally = Tally()
    programs = sorted(p for p in (build / "tests").glob("*_test") if os.access(p, os.X_OK))
    if not programs:
        tally.failed += 1
        tally.failures.append(f"{build}/tests has no test program: build first")
    environment = dict(os.environ, ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1",
                       UBSAN_OPTIONS="print_stacktrace=1")
    for program in programs:
        report, log = scratch / f"{program.name}.xml", scratch / f"{program.name}.log"
        began = time.monotonic()
        status, timed_out = run([str(program), f"--gtest_output=xml:{report}"], log, seconds, environment)
        result = read_junit(report, program.name)
        if result is None:
            # It ended before it could write its report: a crash, an exit or the limit.
            how = f"did not end within {seconds} s" if timed_out else f"ended early with status {status}"
            running = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("[ RUN ")]
            last = running[-1].split("]", 1)[1].strip() if running else "its start"
            result = Tally(failed=1, failures=[f"{program.name}: {how} in {last}"])
        elif status != 0 and result.failed == 0:
            result.failed += 1  # for example what a sanitizer found at exit
            result.failures.append(f"{program.name}: every test passed, yet it ended with status {status}")
        print(f"{program.name:<28}{result.line()}  ({time.monotonic() - began:.1f} s)", flush=True)
        if result.failed:
            print(tail(log), flush=True)
        tally.add(result)
    return tally


def run_pytest(paths, build, scratch):
    report = scratch / "pytest.xml"
    python = ROOT / "build" / "venv" / "bin" / "python"
    command = [str(python), "-m", "pytest", "-q", "-rs", "--color=no", f"--junitxml={report}", *paths]
    environment = dict(os.environ, HULSE_BUILD=str(build.resolve()))
    status = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, env=environment).returncode
    result = read_junit(report, "pytest")
    if result is None:
        return Tally(failed=1, failures=[f"pytest ended with status {status} and left no report"])
    if status not in (0, 1) and result.failed == 0:
        result.failed += 1
        result.failures.append(f"pytest ended with status {status}")
    return result


def finish(tally):
    for skip in tally.skips:
        print(f"skipped: {skip}")
    for failure in tally.failures:
        print(f"FAILED: {failure}")
    print(tally.line(), flush=True)
    return 0 if tally.passed and not tally.failed else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--pytest", nargs="*", default=[], metavar="PATH")
    parser.add_argument("--no-programs", action="store_true", help="pytest only")
    parser.add_argument("--seconds", type=int, default=PROGRAM_SECONDS, help="limit of one program")
    parser.add_argument("--results", type=pathlib.Path, help="write the tally here, for --total")
    parser.add_argument("--total", nargs="+", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()

    tally = Tally()
    if options.total:
        for path in options.total:
            if path.exists():
                tally.add(Tally(**json.loads(path.read_text())))
            else:
                tally.add(Tally(failed=1, failures=[f"{path} was not written: that part did not run to its end"]))
        return finish(tally)
    if not options.build:
        parser.error("--build or --total is needed")
    with tempfile.TemporaryDirectory(prefix="hulse-tests-") as scratch:
        if not options.no_programs:
            tally.add(run_programs(options.build, pathlib.Path(scratch), options.seconds))
        if options.pytest:
            tally.add(run_pytest(options.pytest, options.build, pathlib.Path(scratch)))
    if options.results:
        options.results.parent.mkdir(parents=True, exist_ok=True)
        options.results.write_text(json.dumps(dataclasses.asdict(tally)))
    return finish(tally)


if __name__ == "__main__":
    sys.exit(main())
