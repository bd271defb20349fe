#!/usr/bin/env bash
# Fetches real release archives into the folder $1, each by the client of its kind; a kind whose client is
# missing is skipped, and said. Nothing is fetched twice.
set -euo pipefail
mkdir -p "$1"
to=$(cd "$1" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

note() { printf '%-8s %s\n' "$1" "$2"; }

# Crates are .tar.gz; those that this project needs are here after a build.
if command -v cargo >/dev/null; then
  cargo fetch --locked --quiet
  for crate in "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/{zip,serde_json,rustix,zstd-sys,liblzma-sys}-[0-9]*.crate; do
    [ -e "$crate" ] && cp -n "$crate" "$to/$(basename "$crate" .crate).tar.gz"
  done
  note crates "taken from cargo's cache"
else
  note crates "skipped: no cargo"
fi

if command -v npm >/dev/null; then
  for package in express@4.19.2 typescript@5.4.5; do
    [ -e "$to/${package/@/-}.tgz" ] || (cd "$to" && npm pack --silent "$package" >/dev/null)
  done
  note npm "express, typescript"
else
  note npm "skipped: no npm"
fi

# Wheels are zips under another name, under which nothing extracts them.
if command -v pip >/dev/null; then
  ls "$to"/*-any.zip >/dev/null 2>&1 ||
    pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d "$tmp" requests==2.32.3 setuptools==75.1.0
  for wheel in "$tmp"/*.whl; do
    [ -e "$wheel" ] && mv "$wheel" "$to/$(basename "$wheel" .whl).zip"
  done
  note wheels "requests, setuptools"
else
  note wheels "skipped: no pip"
fi

# Source packages need `deb-src`, which few machines have: it is set for this run alone.
if command -v apt-get >/dev/null && ls /etc/apt/sources.list.d/*.sources >/dev/null 2>&1; then
  mkdir -p "$tmp"/parts "$tmp"/lists/partial "$tmp"/cache/archives/partial
  for list in /etc/apt/sources.list.d/*.sources; do
    sed 's/^Types: .*/Types: deb-src/' "$list" >"$tmp/parts/$(basename "$list")"
  done
  apt() {
    apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$tmp/parts" \
      -o Dir::State::lists="$tmp/lists" -o Dir::Cache="$tmp/cache" -o APT::Sandbox::User=root "$@"
  }
  if [ ! -e "$to"/.debian ]; then
    apt update
    (cd "$to" && apt source --download-only hello git busybox kmod && rm -f ./*.dsc ./*.asc && touch .debian)
  fi
  note debian "hello, git, busybox, kmod"
else
  note debian "skipped: no apt-get, or none of its newer source lists"
fi
