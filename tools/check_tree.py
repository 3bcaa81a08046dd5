#!/usr/bin/env python3
"""Checks what the compiler cannot: who includes whom, what code must not use, and the format.

    check_tree.py [--root DIR] [--no-format] [--results FILE]

Every finding names file and line and says what to do instead. Exit status 1 when there is one. Files that
are longer than a reader likes are listed as warnings.
"""
import argparse
import dataclasses
import fnmatch
import json
import pathlib
import re
import subprocess
import sys

SOURCE = (".h", ".cpp")
TEXT = SOURCE + (".py", ".sh", ".md", ".txt", ".cmake", ".json", ".yaml", ".yml", ".toml", ".java", ".xml", ".conf")
LINES_WARNED = 500


@dataclasses.dataclass(frozen=True)
class Ban:
    name: str
    pattern: str  # a regular expression, looked for in code without comments and string contents
    instead: str
    files: tuple = ("src/*.h", "src/*.cpp")
    allowed: tuple = ()
    raw: bool = False  # look at comments and strings too


TESTS = ("*_test.cpp", "tests/*")
BANS = (
    Ban("clock", r"\b(?:steady|system|high_resolution)_clock::now\b",
        "aio::Clock::now() or aio::wall_ms(): tests move that clock by hand", allowed=("src/aio/clock.cpp", *TESTS)),
    Ban("time", r"(?<![\w.>:])(?:::)?(?:time|gettimeofday|clock_gettime)\s*\(",
        "aio::Clock::now() or aio::wall_ms()", allowed=("src/aio/clock.cpp", *TESTS)),
    Ban("rand", r"(?<![\w.>])(?:std::)?(?:s?rand|[dlm]rand48)\s*\(|(?<![\w.>])::s?random\s*\(",
        "random_hex() of base/ids.h, or a seeded <random> engine"),
    Ban("sleep", r"\bsleep_for\s*\(|\bthis_thread::sleep_until\b|(?<![\w.>:])u?sleep\s*\(\s*\d+\s*\)|\bnanosleep\s*\(",
        "co_await aio::sleep(), which a stop ends", allowed=("*_test.cpp",)),
    Ban("stdout", r"\bstd::c(?:out|err)\b|(?<![\w.>:])(?:std::)?(?:printf|puts|putchar)\s*\(|\b(?:std|fmt)::print(?:ln)?\s*\(",
        "the log facade (base/log.h); only cli and main talk to the terminal",
        allowed=("src/cli/*", "src/main/*", *TESTS)),
    Ban("sockets", r"(?<![\w.>])::(?:socket|bind|listen|accept4?|connect|recv|recvmsg|recvmmsg|send|sendmsg)\s*\("
                   r"|\bip::(?:tcp|udp)::(?:socket|acceptor|resolver)\b",
        "aio::Socket and aio::Acceptor", allowed=("src/aio/*", "src/connectors/*", *TESTS)),
    Ban("files", r"\bstd::[io]?fstream\b|(?<![\w.>])(?:std::)?fopen\s*\(|(?<![\w.>])::open\s*\(",
        "storage, aio::offload with a small wrapper, or a connector's own file",
        allowed=("src/aio/*", "src/storage/*", "src/connectors/*", "src/cli/*", "src/main/*", "src/connect/*", "src/auth/*", *TESTS)),
    Ban("mutex", r"\bstd::(?:recursive_|shared_|timed_)?mutex\b",
        "the strand that owns the state", files=("src/connectors/*", "src/broker/*", "src/client/*"),
        # netty's reading threads outlive the strand by a moment; the lock guards only whether they may be posted to.
        allowed=("src/connectors/netty/inbox.h", "src/connectors/netty/inbox.cpp", *TESTS)),
    Ban("detached", r"\basio::detached\b", "aio::Gate::spawn, which is waited for",
        allowed=("src/aio/*", *TESTS)),
    Ban("swallowed", r"\bcatch\s*\(\s*\.\.\.\s*\)\s*\{\s*\}",
        "a handler that says what failed, or no catch", files=("src/*", "bench/*", "tests/*")),
    # Inside the parentheses only: what follows them is a statement of its own.
    Ban("awaited condition",
        r"\b(?:if|while|switch)\s*\((?:[^();{}]|\((?:[^()]|\([^()]*\))*\)|\((?=[^()]*co_await))*?\bco_await\b",
        "`const auto x = co_await f();` and then the condition (rule C1)", allowed=("*_test.cpp",)),
    Ban("unfinished", r"\b(?:FIXME|XXX|TODO)\b", "do it, or write an issue",
        files=("src/*", "bench/*", "tests/*", "tools/*"), raw=True),
    Ban("machine path", r"/work/|\.\./shared\b", "a path inside this tree: it must stand alone",
        files=("*",), raw=True),
    Ban("swallowed (Python)", r"except(?:\s+(?:Base)?Exception)?\s*:\s*(?:pass|\.\.\.)\s*$",
        "catch what you expect and say what failed", files=("*.py",), raw=True),
    Ban("fixed wait (Python)", r"\btime\.sleep\s*\((?!POLL)", "wait_until(condition) of tests/integration/support.py",
        files=("tests/*.py",), raw=True),
)
# This file spells out what it looks for, and its test spells it out again.
SELF = ("tools/check_tree.py", "tests/tools/test_check_tree.py")


@dataclasses.dataclass(frozen=True)
class Finding:
    rule: str
    path: str
    line: int
    text: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def tracked_files(root):
    """Paths of the tree, without what git ignores."""
    listing = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"],
                             capture_output=True)
    if listing.returncode == 0:
        names = [name for name in listing.stdout.decode().split("\0") if name]
    else:  # an unpacked archive
        names = [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]
        names = [name for name in names if not re.match(r"(?:\.git|build|bin)/", name)]
    return sorted(name for name in names if (root / name).is_file())


def without_comments(text):
    """The same lines, with comments and the contents of strings blanked."""
    out, i, end = [], 0, len(text)
    while i < end:
        two = text[i:i + 2]
        if two == "//":
            stop = text.find("\n", i)
            i = end if stop < 0 else stop
        elif two == "/*":
            stop = text.find("*/", i + 2)
            stop = end if stop < 0 else stop + 2
            out.append("\n" * text.count("\n", i, stop))
            i = stop
        elif text.startswith('R"', i) and (match := re.compile(r'R"([^()\\ \n]{0,16})\(').match(text, i)):
            stop = text.find(")" + match[1] + '"', i)
            stop = end if stop < 0 else stop + len(match[1]) + 2
            out.append('""' + "\n" * text.count("\n", i, stop))
            i = stop
        elif text[i] == '"' or (text[i] == "'" and not (i and text[i - 1].isalnum())):  # 1'000 is a number
            quote, i = text[i], i + 1
            while i < end and text[i] not in (quote, "\n"):
                i += 2 if text[i] == "\\" else 1
            out.append(quote * 2)
            i += 1 if i < end and text[i] == quote else 0
        else:
            out.append(text[i])
            i += 1
    return "".join(out)


def matches(path, patterns):
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def read_layers(text):
    layers = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        name, colon, may = line.partition(":")
        if not colon:
            raise SystemExit(f"docs/internals/layers.txt:{number}: a line is `folder: folders it may include`")
        layers[name.strip()] = set(may.split())
    for name, may in layers.items():
        unknown = {m for m in may if m != "*" and m not in layers}
        if unknown:
            raise SystemExit(f"docs/internals/layers.txt: {name} may include {', '.join(sorted(unknown))}, "
                             "which the file does not list")
    if "client" in layers.get("broker", ()) or "broker" in layers.get("client", ()):
        raise SystemExit("docs/internals/layers.txt: broker and client never include each other")
    return layers


def folder_of(path):
    """src/broker/x.h -> broker, src/connectors/netty/x.h -> connectors/netty; None for a file right in src."""
    parts = path.split("/")
    if len(parts) < 3:
        return None
    return f"{parts[1]}/{parts[2]}" if parts[1] == "connectors" and len(parts) > 3 else parts[1]


def check_layers(files, layers):
    findings = []
    for path, text in files.items():
        if not path.startswith("src/") or not path.endswith(SOURCE):
            continue
        folder = folder_of(path)
        if folder is None:
            findings.append(Finding("layers", path, 1, "code lives in a folder of src/"))
            continue
        layer = "connectors/*" if folder.startswith("connectors/") else folder
        if layer not in layers:
            findings.append(Finding("layers", path, 1, f"add {folder} to docs/internals/layers.txt"))
            continue
        may = layers[layer]
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*["<]([^">]+)[">]', line)
            if not match:
                continue
            included = match[1]
            if included.startswith("..") or "/../" in included:
                findings.append(Finding("layers", path, number, f"include {included} from src/, not relative"))
                continue
            parts = included.split("/")
            if len(parts) < 2 or (parts[0] not in layers and parts[0] != "connectors"):
                continue  # the system's, a library's, or a generated header
            target = folder_of("src/" + included)
            if target in (folder, "base") or "*" in may or target in may:
                continue
            if target.startswith("connectors/"):
                why = "a connector knows no other; shared code goes to connect, cdc or sql" \
                    if folder.startswith("connectors/") else "connectors are reached through connect's registry"
            elif {folder, target} == {"broker", "client"}:
                why = "broker and client never include each other; what both need belongs to wire"
            else:
                why = f"{folder} may include only: base {' '.join(sorted(may))}".rstrip()
            findings.append(Finding("layers", path, number, f"{included}: {why}"))
    return findings


def check_bans(files, bans=BANS):
    findings = []
    code = {path: without_comments(text) if path.endswith(SOURCE) else text for path, text in files.items()}
    for ban in bans:
        regex = re.compile(ban.pattern, re.MULTILINE)
        for path, text in files.items():
            if path in SELF or not matches(path, ban.files) or matches(path, ban.allowed):
                continue
            looked_at = text if ban.raw else code[path]
            for match in regex.finditer(looked_at):
                number = looked_at.count("\n", 0, match.start()) + 1
                found = " ".join(match[0].split())
                findings.append(Finding(ban.name, path, number, f"`{found}`: use {ban.instead}"))
    return findings


def check_format(root, names):
    sources = [name for name in names if name.endswith(SOURCE)]
    if not sources:
        return []
    try:
        done = subprocess.run(["clang-format-19", "--dry-run", "--Werror", *sources], cwd=root, capture_output=True,
                              text=True)
    except FileNotFoundError:
        return [Finding("format", ".", 0, "clang-format-19 is missing: tools/install_packages.sh check")]
    if done.returncode == 0:
        return []
    places = re.findall(r"^(.+?):(\d+):\d+: error: code should be clang-formatted", done.stderr, re.MULTILINE)
    if not places:
        return [Finding("format", ".", 0, done.stderr.strip() or f"clang-format-19 ended with {done.returncode}")]
    first = {}
    for path, number in places:
        first.setdefault(path, int(number))
    return [Finding("format", path, number, "`make format` writes it") for path, number in first.items()]


def load(root, names):
    files = {}
    for name in names:
        if name.endswith(TEXT) or "." not in name.rsplit("/", 1)[-1] or name == ".ci/run":
            try:
                files[name] = (root / name).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # not text
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--no-format", action="store_true", help="leave out clang-format")
    parser.add_argument("--results", type=pathlib.Path, help="write counts here, for run_tests.py --total")
    options = parser.parse_args()

    root = options.root.resolve()
    names = tracked_files(root)
    files = load(root, names)
    layers = read_layers((root / "docs/internals/layers.txt").read_text())
    rules = {"layers": check_layers(files, layers), "ban list": check_bans(files)}
    if not options.no_format:
        rules["format"] = check_format(root, names)

    for name, text in files.items():
        lines = text.count("\n")
        if lines > LINES_WARNED and name.endswith(SOURCE + (".py",)):
            print(f"warning: {name} has {lines} lines; would a reader split it?")
    for rule, findings in rules.items():
        for finding in findings:
            print(finding)
        print(f"{rule}: {len(findings)} findings" if findings else f"{rule}: ok")
    broken = [rule for rule, findings in rules.items() if findings]
    if options.results:
        options.results.parent.mkdir(parents=True, exist_ok=True)
        options.results.write_text(json.dumps({
            "passed": len(rules) - len(broken), "failed": len(broken), "skipped": 0,
            "failures": [f"tree: {rule}" for rule in broken], "skips": []}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
