"""The test runner counts right, and a crash, a hang or a missing report is a failure."""
import json
import os
import pathlib
import stat
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Stands for a GoogleTest program: writes its report to the file it is told.
REPORT = """<testsuites><testsuite name="s">
<testcase name="good" status="run" result="completed" classname="s"/>
{extra}
<testcase name="DISABLED_x" status="notrun" result="suppressed" classname="s"/>
</testsuite></testsuites>"""


def program(folder, name, body):
    path = folder / "tests" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/bash\nout=${1#--gtest_output=xml:}\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def report(extra=""):
    return f"cat >$out <<'E'\n{REPORT.format(extra=extra)}\nE\n"


def run(*arguments):
    done = subprocess.run([sys.executable, str(ROOT / "tools/run_tests.py"), *map(str, arguments)],
                          capture_output=True, text=True, env=dict(os.environ))
    return done.returncode, done.stdout.splitlines()


def test_counts_of_several_programs(tmp_path):
    program(tmp_path, "a_test", report())
    program(tmp_path, "b_test", report('<testcase name="later" classname="s" result="skipped">'
                                       '<skipped message="no server"/></testcase>'))
    status, lines = run("--build", tmp_path)
    assert status == 0
    assert lines[-1] == "2 passed, 0 failed, 1 skipped"
    assert any("no server" in line for line in lines)


def test_a_failed_test_fails_the_run(tmp_path):
    program(tmp_path, "a_test", report('<testcase name="bad" classname="s"><failure message="m"/></testcase>') + "exit 1\n")
    status, lines = run("--build", tmp_path)
    assert status == 1
    assert lines[-1] == "1 passed, 1 failed, 0 skipped"
    assert any(line.startswith("FAILED:") and "bad" in line for line in lines)


def test_a_crash_is_a_failure_and_names_the_test(tmp_path):
    program(tmp_path, "a_test", 'echo "[ RUN      ] Suite.case"\nkill -SEGV $$\n')
    program(tmp_path, "b_test", report())
    status, lines = run("--build", tmp_path)
    assert status == 1
    assert lines[-1] == "1 passed, 1 failed, 0 skipped"
    assert any("Suite.case" in line for line in lines if line.startswith("FAILED:"))


def test_a_hang_ends_and_is_a_failure(tmp_path):
    program(tmp_path, "a_test", "sleep 600\n")
    status, lines = run("--build", tmp_path, "--seconds", 1)
    assert status == 1
    assert "did not end within 1 s" in "\n".join(lines)


def test_a_bad_exit_after_good_tests_is_a_failure(tmp_path):
    program(tmp_path, "a_test", report() + "exit 23\n")
    status, lines = run("--build", tmp_path)
    assert status == 1
    assert lines[-1] == "1 passed, 1 failed, 0 skipped"


def test_no_programs_is_a_failure(tmp_path):
    status, lines = run("--build", tmp_path)
    assert status == 1
    assert lines[-1] == "0 passed, 1 failed, 0 skipped"


def test_the_total_adds_up_and_misses_nothing(tmp_path):
    part = {"passed": 3, "failed": 0, "skipped": 1, "failures": [], "skips": ["x: y"]}
    (tmp_path / "a.json").write_text(json.dumps(part))
    (tmp_path / "b.json").write_text(json.dumps(part))
    assert run("--total", tmp_path / "a.json", tmp_path / "b.json")[1][-1] == "6 passed, 0 failed, 2 skipped"
    status, lines = run("--total", tmp_path / "a.json", tmp_path / "gone.json")
    assert status == 1
    assert lines[-1] == "3 passed, 1 failed, 1 skipped"
