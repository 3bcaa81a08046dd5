"""The tree checker finds what it must find, and leaves alone what only looks alike."""
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import check_tree  # noqa: E402

LAYERS = check_tree.read_layers((ROOT / "docs/internals/layers.txt").read_text())


def layer_findings(path, include):
    return [str(f) for f in check_tree.check_layers({path: f'#pragma once\n#include "{include}"\n'}, LAYERS)]


@pytest.mark.parametrize("path, include", [
    ("src/broker/session.cpp", "client/producer.h"),
    ("src/client/producer.h", "broker/session.h"),
    ("src/wire/frame.cpp", "aio/task.h"),
    ("src/storage/log.cpp", "wire/frame.h"),
    ("src/runtime/instance.cpp", "broker/broker.h"),
    ("src/connectors/netty/netty_source.cpp", "connectors/file/file_sink.h"),
    ("src/connectors/netty/netty_source.cpp", "client/producer.h"),
    ("src/runtime/instance.cpp", "connectors/file/file_sink.h"),
    ("src/broker/session.cpp", "../storage/log.h"),
    ("src/connect/sdk/connector.hpp.h", "runtime/instance.h"),
    ("src/novel/thing.cpp", "base/result.h"),
    ("src/loose.cpp", "base/result.h"),
])
def test_layer_violations_are_found(path, include):
    assert len(layer_findings(path, include)) == 1


@pytest.mark.parametrize("path, include", [
    ("src/broker/session.cpp", "storage/log.h"),
    ("src/broker/session.cpp", "broker/topic.h"),
    ("src/connectors/netty/netty_source.cpp", "connectors/netty/netty_config.h"),
    ("src/connectors/netty/netty_source.cpp", "connect/source.h"),
    ("src/connectors/netty/netty_source.cpp", "base/bytes.h"),
    ("src/main/main.cpp", "broker/broker.h"),
    ("src/client/producer.cpp", "boost/asio/write.hpp"),
    ("src/wire/frame.cpp", "pulsar.pb.h"),
    ("bench/tcp_lines.cpp", "../src/base/bytes.h"),
])
def test_allowed_includes_pass(path, include):
    assert layer_findings(path, include) == []


def test_a_layer_file_may_not_join_broker_and_client():
    with pytest.raises(SystemExit, match="broker and client"):
        check_tree.read_layers("broker: client\nclient:\n")


def test_a_layer_file_may_not_name_unknown_folders():
    with pytest.raises(SystemExit, match="nonsense"):
        check_tree.read_layers("broker: nonsense\n")


def banned(path, text):
    return [f.rule for f in check_tree.check_bans({path: text})]


@pytest.mark.parametrize("rule, path, text", [
    ("clock", "src/broker/a.cpp", "auto t = std::chrono::steady_clock::now();"),
    ("time", "src/broker/a.cpp", "long t = time(nullptr);"),
    ("rand", "src/broker/a.cpp", "int i = rand();"),
    ("rand", "src/broker/a.cpp", "int i = std::rand();"),
    ("sleep", "src/broker/a.cpp", "std::this_thread::sleep_for(1s);"),
    ("sleep", "src/broker/a.cpp", "usleep(100);"),
    ("stdout", "src/broker/a.cpp", "std::cout << 1;"),
    ("stdout", "src/client/a.cpp", 'printf("x");'),
    ("stdout", "src/client/a.cpp", 'fmt::print("x");'),
    ("sockets", "src/runtime/a.cpp", "int s = ::socket(AF_INET, SOCK_STREAM, 0);"),
    ("sockets", "src/runtime/a.cpp", "asio::ip::tcp::socket s(io);"),
    ("files", "src/runtime/a.cpp", "std::ofstream out(path);"),
    ("mutex", "src/connectors/x/a.cpp", "std::mutex lock_;"),
    ("detached", "src/broker/a.cpp", "co_spawn(io, run(), asio::detached);"),
    ("swallowed", "src/broker/a.cpp", "try { f(); } catch (...) {}"),
    ("swallowed", "src/broker/a.cpp", "try { f(); }\ncatch (...)\n{\n}"),
    ("awaited condition", "src/broker/a.cpp", "if (co_await f()) return;"),
    ("awaited condition", "src/broker/a.cpp", "while (!stopped &&\n       co_await f()) {}"),
    ("awaited condition", "src/broker/a.cpp", "if (!(co_await f())) return;"),
    ("awaited condition", "src/broker/a.cpp", "while (g(1) < co_await f()) {}"),
    ("unfinished", "src/broker/a.cpp", "// TODO later"),
    ("machine path", "docs/guide/a.md", "see /work/" "main"),
    ("machine path", "tests/a.py", "open('../" "shared/x')"),
    ("swallowed (Python)", "tests/a.py", "try:\n  f()\nexcept Exception: pass\n"),
    ("fixed wait (Python)", "tests/a.py", "time.sleep(2)"),
])
def test_banned_words_are_found(rule, path, text):
    assert banned(path, text) == [rule]


@pytest.mark.parametrize("path, text", [
    ("src/aio/clock.cpp", "auto t = std::chrono::steady_clock::now();"),
    ("src/broker/a.cpp", "// std::chrono::steady_clock::now() is banned"),
    ("src/broker/a.cpp", 'log("rand() and sleep(1)");'),
    ("src/broker/a.cpp", 'auto text = R"(std::cout << rand();)";'),
    ("src/broker/a.cpp", "/* if (co_await f()) */ g();"),
    ("src/broker/a.cpp", "const size_t n = 1'000; const char c = '\"'; // rand()"),
    ("src/broker/a.cpp", "snprintf(b, n, f); std::fprintf(stderr, f);"),
    ("src/broker/a.cpp", "void print(const Record& record); print(record);"),
    ("src/broker/a.cpp", "operand(); message.event_time(); obj.time(); grand(1);"),
    ("src/broker/a.cpp", "const bool ok = co_await f();\nif (ok) co_await g();"),
    ("src/broker/a.cpp", "if (ok) co_await g();"),
    ("src/broker/a.cpp", "if (!ok) {\n  co_await g();\n}"),
    ("src/broker/a.cpp", "while (!running_.empty()) co_await done_.wait();"),
    ("src/broker/a_test.cpp", "std::this_thread::sleep_for(1ms);"),
    ("src/connectors/netty/a.cpp", "int s = ::socket(AF_INET, SOCK_DGRAM, 0);"),
    ("src/cli/a.cpp", "std::cout << 1;"),
    ("src/broker/a.cpp", "catch (...) { log(); }"),
])
def test_lookalikes_pass(path, text):
    assert banned(path, text) == []


def test_line_numbers_survive_comments_and_raw_strings():
    text = '/* one\ntwo */\nauto s = R"x(\n\n)x";\nint i = rand();\n'
    findings = check_tree.check_bans({"src/broker/a.cpp": text})
    assert [(f.rule, f.line) for f in findings] == [("rand", 6)]


def test_the_format_check_names_the_file(tmp_path):
    (tmp_path / "a.cpp").write_text("int   main( ) {return 0 ;}\n")
    (tmp_path / "b.cpp").write_text("int x;\n")
    (tmp_path / ".clang-format").write_text("BasedOnStyle: Google\n")
    findings = check_tree.check_format(tmp_path, ["a.cpp", "b.cpp"])
    assert [f.path for f in findings] == ["a.cpp"]


def test_the_program_fails_on_a_broken_tree_and_passes_a_sound_one(tmp_path):
    (tmp_path / "src/base").mkdir(parents=True)
    (tmp_path / "docs/internals").mkdir(parents=True)
    (tmp_path / "docs/internals/layers.txt").write_text("base:\naio:\n")
    source = tmp_path / "src/base/a.h"
    command = [sys.executable, str(ROOT / "tools/check_tree.py"), "--root", str(tmp_path), "--no-format"]

    source.write_text("#pragma once\n")
    assert subprocess.run(command, capture_output=True).returncode == 0
    source.write_text('#pragma once\n#include "aio/task.h"\n')
    broken = subprocess.run(command, capture_output=True, text=True)
    assert broken.returncode == 1
    assert "src/base/a.h:2: layers" in broken.stdout
