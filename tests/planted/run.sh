#!/usr/bin/env bash
# Plants one bug after another into a copy of the sources, and runs the test that should catch it.
#
# usage: tests/planted/run.sh [NAME...]    (names of patches without `.patch`; all without arguments)
set -euo pipefail
cd "$(dirname "$0")/../.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/planted" INSTA_UPDATE=no

(($#)) || set -- $(cd tests/planted && ls -- *.patch | sed 's/\.patch$//')
cd "$copy"
missed=0
for name; do
  patch=tests/planted/$name.patch
  read -r _ target test < <(grep '^Test: ' "$patch")
  patch --quiet -p1 <"$patch"
  if cargo test --quiet --workspace --locked --test "$target" --no-run 2>"$copy.log"; then
    # A bug may also be caught by a test that does not end.
    if timeout 300 cargo test --quiet --workspace --locked --test "$target" -- "$test" >"$copy.log" 2>&1; then
      result=MISSED
      missed=$((missed + 1))
    else
      result=caught
    fi
  else
    cat "$copy.log"
    result="does not build"
    missed=$((missed + 1))
  fi
  printf '%-24s %s: %s\n' "$name" "$result" "$test"
  patch --quiet -p1 --reverse <"$patch"
done
rm -f "$copy.log"
exit $((missed > 0))
