#!/usr/bin/env bash
# Runs each fuzzer of a folder for a while, its corpus kept beside it. Stops at the first finding, whose
# input libFuzzer has written to the folder.
set -euo pipefail
folder=$1
seconds=$2
for fuzzer in "$folder"/*_fuzz; do
  [[ -f $fuzzer ]] || continue # a corpus
  name=$(basename "$fuzzer")
  corpus=$folder/corpus-$name
  mkdir -p "$corpus"
  printf '%s for %s s\n' "$name" "$seconds"
  status=0
  "$fuzzer" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$folder/" "$corpus" >"$folder/$name.log" 2>&1 || status=$?
  grep -aE '^==.*ERROR|^SUMMARY|number_of_executed_units|Test unit written' "$folder/$name.log" || true
  ((status == 0)) || { echo "$name found something; see $folder/$name.log"; exit 1; }
done
