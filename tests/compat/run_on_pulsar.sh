#!/usr/bin/env bash
# Runs tests on Apache Pulsar 4.0.8 instead of on our own broker: a program of tests/bus, or pytest.
#
#   run_on_pulsar.sh PROGRAM [ARGUMENT...]    arguments go to the program: --gtest_filter=…
#
# Starts Pulsar if it does not run, and ends it then. Exit status 77 when this machine cannot have it.
set -euo pipefail
(($#)) || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }

systems=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../systems" && pwd)/systems
if ! "$systems" url pulsar >/dev/null 2>&1; then
  trap '"$systems" down pulsar' EXIT
fi
urls=$("$systems" up pulsar)
read -r HULSE_TEST_SERVICE_URL HULSE_TEST_ADMIN_URL <<<"$urls"
HULSE_TEST_RESTART="'$systems' down pulsar && '$systems' up pulsar"
HULSE_TEST_BROKER=$HULSE_TEST_SERVICE_URL
export HULSE_TEST_SERVICE_URL HULSE_TEST_ADMIN_URL HULSE_TEST_RESTART HULSE_TEST_BROKER
timeout "${HULSE_TEST_SECONDS:-900}" "$@"
