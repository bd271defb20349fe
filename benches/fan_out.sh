#!/usr/bin/env bash
# Measures attempts at once against pushes at once: N sessions (default: 20), each forked from one context, that change a
# file each and merge it back; then N mounts of one context that change a file each and push.
# STORE is any store, such as s3://BUCKET/PREFIX with its variables set; default: a new directory in /dev/shm.
# The program comes from --profile quick, or is the one that PROGRAM names.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${PROGRAM:-$PWD/target/quick/ctxsync}
[ -n "${PROGRAM:-}" ] || cargo build --locked --workspace --profile quick --bin ctxsync
dir=$(mktemp -d /dev/shm/fan-out.XXXXXX)
trap 'rm -rf "$dir"' EXIT
count=${2:-20}
export HOME=$dir CTXSYNC_STORE=${1:-$dir/store} CTXSYNC_STATE_DIR=$dir/state CTXSYNC_NO_PROGRESS=1
export ctxsync=$program work=$dir
base=fan-out-$$
cd "$dir"

for ((f = 0; f < 1000; f++)); do
  mkdir -p "base/$((f % 20))"
  echo "file $f" > "base/$((f % 20))/$f"
done
"$program" -q push "$base" base > /dev/null

# Runs a line of shell for each of the attempts, all at once, and prints the seconds until the last one ended.
all_at_once() {
  local begin=$EPOCHREALTIME jobs=() i
  for ((i = 0; i < count; i++)); do
    i=$i bash -euc "$1" > "out.$i" 2>&1 &
    jobs+=($!)
  done
  for i in "${!jobs[@]}"; do
    wait "${jobs[$i]}" || { cat "out.$i" >&2; exit 1; }
  done
  awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $begin }"
}

export base
for ((i = 0; i < count; i++)); do "$program" -q pull "$base" "mount.$i" > /dev/null; done
pushes=$(all_at_once 'echo "push $i" >> "$work/mount.$i/$((i % 20))/$i"; "$ctxsync" -q push "$base" "$work/mount.$i"')
attempts=$(all_at_once '
  "$ctxsync" -q run --fork-from "$base" -c "$base-$i" --wait "$work/attempt.$i" -- sh -c "echo try >> $((i % 20))/$i"
  "$ctxsync" -q context merge "$base-$i" "$base"')

# Every change of both rounds is there.
"$program" -q pull "$base" after > /dev/null
lines=$(cat after/*/* | wc -l)
[ "$lines" = $((1000 + 2 * count)) ] || { echo "$lines lines instead of $((1000 + 2 * count))" >&2; exit 1; }
echo "$count pushes at once: $pushes s; $count sessions at once, forked and merged back: $attempts s"
