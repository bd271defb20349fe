#!/usr/bin/env bash
# Loses a workspace and finds it again, with the program itself and nothing set up.
#
# Two directories stand for two machines. All they have in common is the store, a third directory. Everything
# is below one temporary directory, which is removed at the end.
set -euo pipefail
cd "$(dirname "$0")"

# Only what is needed here, without clouds and archives, and not the release profile: both would build for minutes longer.
# To use the program on your own files, install it: cargo install --locked --path sync-cli
echo "Building ctxsync. The first time, this takes about two minutes on two cores."
cargo build --quiet --locked -p sync-cli --no-default-features
ctxsync="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/debug/ctxsync"

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
# Nothing of the user's own config or variables takes part.
for variable in $(compgen -e CTXSYNC_ || true); do unset "$variable"; done
export XDG_CONFIG_HOME="$place/none" XDG_DATA_HOME="$place/data"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
on() { # on MACHINE COMMAND...: runs ctxsync with that machine's own state
  local machine=$1
  shift
  echo "$machine\$ ctxsync $*"
  XDG_STATE_HOME="$place/$machine/state" "$ctxsync" "$@"
}

say "Machine 1 starts an empty workspace and works in it."
on machine1 run -c my-project machine1/work -- bash -c '
  mkdir -p src notes empty
  printf "fn main() {}\n" > src/main.rs
  printf "#!/bin/sh\necho it works\n" > build.sh && chmod +x build.sh
  ln -s src/main.rs link
  seq 2000000 > notes/numbers.txt'
cp -a machine1/work kept-for-comparison

say "Machine 1 is gone, with all that was on it."
rm -rf machine1
ls

say "Machine 2 opens the same context, finds everything, and goes on."
on machine2 run --wait -c my-project machine2/work -- bash -c '
  ./build.sh
  diff -r --no-dereference . ../../kept-for-comparison && echo "the workspace is what it was"
  echo "one more line" >> notes/numbers.txt
  rm link'

say "Both states are in the history; either can be had again."
on machine2 log my-project
on machine2 restore my-project@-1 before
test -L before/link && test ! -e machine2/work/link && tail -n 1 machine2/work/notes/numbers.txt
