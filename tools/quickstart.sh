#!/usr/bin/env bash
# `make quickstart`: this machine's package database, as JSON lines over TCP, through a durable topic into a file.
# Needs the build (make build). Leaves nothing running and nothing behind but its last words.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hulse=$PWD/build/${PRESET:-release}/bin/hulse
[[ -x $hulse ]] || { echo "quickstart: $hulse is not built; run: make build" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/hulse-quickstart.XXXXXX")
pids=()

clean_up() {
  local status=$? pid end=$((SECONDS + 10))
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null && ((SECONDS < end)); do sleep 0.05; done
    if kill -KILL "$pid" 2>/dev/null; then echo "quickstart: process $pid had to be killed" >&2; status=1; fi
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '  %s\n' "$*"; }
show_command() { # WORD...: as one would type it
  local word line=hulse
  for word in "${@:2}"; do
    [[ $word != *[{\ ]* ]] || word="'$word'"
    line+=" $word"
  done
  show "$line"
}
fail() { # MESSAGE LOG
  printf 'quickstart: %s\n' "$1" >&2
  [[ -z ${2:-} ]] || sed 's/^/  | /' "$2" >&2
  exit 1
}

free_port() { # sets $port to one nobody listens on
  local tries
  for ((tries = 0; tries < 100; ++tries)); do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
  done
  fail "no free port found between 20000 and 30000"
}

launch() { # LOG COMMAND...: in the background
  "${@:2}" >"$work/$1" 2>&1 </dev/null &
  pids+=($!)
  started=$!
}

wait_for() { # WHAT LOG COMMAND...: until the command succeeds, for a minute at most, while the last launch runs
  local end=$((SECONDS + 60))
  until "${@:3}" >/dev/null 2>&1; do
    kill -0 "$started" 2>/dev/null || fail "the program ended before $1:" "$work/$2"
    ((SECONDS < end)) || fail "waited a minute in vain for $1:" "$work/$2"
    sleep 0.05
  done
}
is_ready() ( # PORT: GET /ready without curl
  exec 4<>"/dev/tcp/127.0.0.1/$1"
  printf 'GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&4
  read -r -t 5 line <&4 && [[ $line == *" 200 "* ]]
)
connects() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
lines_are() { [[ -e $1 ]] && (($(wc -l <"$1") >= $2)); }

free_port; broker_port=$port
free_port; web_port=$port
free_port; netty_port=$port
arrived=$work/arrived.jsonl

step "1. hulse standalone: the broker and its data folder"
launch standalone.log "$hulse" standalone --data-dir "$work/data" --broker-port "$broker_port" --web-port "$web_port"
wait_for "the broker to be ready" standalone.log is_ready "$web_port"
sed 's/^/  /' "$work/standalone.log" | grep ready

url=pulsar://127.0.0.1:$broker_port
step "2. A file sink: from topic 'packages' to a file"
sink=("$hulse" sinks localrun --broker-service-url "$url" --name to-file --sink-type file --inputs packages
  --subs-position Earliest --sink-config "{\"path\": \"$arrived\", \"format\": \"raw\"}")
show_command "${sink[@]}"
launch sink.log "${sink[@]}"

step "3. A netty source: from a TCP port to topic 'packages', one message a line"
source=("$hulse" sources localrun --broker-service-url "$url" --name from-tcp --source-type netty
  --destination-topic-name packages --source-config "{\"type\": \"tcp\", \"port\": $netty_port, \"framing\": \"line\"}")
show_command "${source[@]}"
launch source.log "${source[@]}"
wait_for "the source to listen" source.log connects "$netty_port"

step "4. This machine's package database goes in, over TCP"
dpkg-query -W -f '{"package":"${Package}","version":"${Version}","architecture":"${Architecture}","kilobytes":"${Installed-Size}"}\n' \
  >"$work/sent.jsonl"
sent=$(wc -l <"$work/sent.jsonl")
cat "$work/sent.jsonl" >"/dev/tcp/127.0.0.1/$netty_port"
show "$sent lines sent to port $netty_port"

wait_for "every line to arrive in the file" sink.log lines_are "$arrived" "$sent"
step "5. What arrived in the file"
head -n 3 "$arrived" | cut -c 1-110 | sed 's/^/  /'
show "…"
cmp -s "$work/sent.jsonl" "$arrived" || fail "the file is not what was sent: $(wc -l <"$arrived") lines of $sent"
show "$(wc -l <"$arrived") of $sent lines, each as it was sent, in order"

step "6. Everything stops cleanly"
for pid in "${pids[@]}"; do kill -TERM "$pid"; done
for pid in "${pids[@]}"; do wait "$pid" || fail "a program ended with status $? when it was told to stop:" <(cat "$work"/*.log); done
pids=()
cat <<TEXT

It worked. Where to look next:
  bin/hulse standalone                     keep one running: pulsar://127.0.0.1:6650, http://127.0.0.1:8080
  bin/hulse connectors list                what it connects; 'show NAME' lists every key
  examples/                                configurations to start from
  README.md, docs/guide/                   the same in words, and Elasticsearch
TEXT
