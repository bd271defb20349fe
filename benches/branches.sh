#!/usr/bin/env bash
# Measures forks, merges and diffs of large contexts in a local store: seconds, memory, requests and bytes.
# The program comes from --profile quick; DIR (default: a new one in /dev/shm) needs 6 GB of memory or disk.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --locked --workspace --profile quick --bin ctxsync
program=$PWD/target/quick/ctxsync
dir=${1:-$(mktemp -d /dev/shm/branches.XXXXXX)}
mkdir -p "$dir"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export HOME=$dir CTXSYNC_STORE=$dir/store CTXSYNC_STATE_DIR=$dir/state

# Makes NAME with this many directories of this many files.
fill() {
  for ((d = 0; d < $2; d++)); do
    mkdir -p "$1/$((d / 50))/$d"
    for ((f = 0; f < $3; f++)); do echo "$d $f" > "$1/$((d / 50))/$d/$f"; done
  done
}

# Changes the first line of file N in this many directories.
change() {
  for ((d = 0; d < $2; d++)); do echo "$1 $3" >> "$1/$((d / 50))/$d/$3"; done
}

measure() {
  local what=$1
  shift
  command time -f '%e %M' -o figures "$program" "$@" --json --no-progress > lines || [ $? = 4 ]
  local summary
  summary=$(tail -n 1 lines)
  figure() { sed -E "s/.*\"$1\":([0-9]+).*/\1/" <<< "$summary"; }
  read -r seconds memory < figures
  printf '| %s | %s s | %s | %s KiB | %s KiB | %s MiB |\n' "$what" "$seconds" "$(figure requests)" \
    "$(($(figure bytes_sent) / 1024))" "$(($(figure bytes_received) / 1024))" "$((memory / 1024))"
}

fill small 1 20
fill large 100 1000
fill huge 1000 1000
echo '| work | time | requests | sent | received | memory |'
echo '|---|---|---|---|---|---|'
measure 'first push of 20 files' push small small
measure 'first push of 1,000,000 files' push huge huge
measure 'fork of 20 files' context fork small small-2
measure 'fork of 1,000,000 files' context fork huge huge-2
change huge 10 7
measure 'push of 1,000,000 files, ten of them changed' push huge huge
measure 'diff of these two snapshots' diff huge@-1 huge
"$program" -q push large large > /dev/null
for fork in a b; do
  "$program" -q context fork large $fork > /dev/null
  "$program" -q pull $fork $fork > /dev/null
  change $fork 100 "$([ $fork = a ] && echo 1 || echo 2)"
  "$program" -q push $fork $fork > /dev/null
done
measure 'merge of a fork of 100,000 files, 100 of them changed' context merge a large
measure 'merge of a second one' context merge b large
