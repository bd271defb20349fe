#!/usr/bin/env bash
# Pushes every snapshot of a directory in a restic repository to a context, the oldest first.
#
#   RESTIC_REPOSITORY=... RESTIC_PASSWORD=... CTXSYNC_STORE=... from-restic.sh /home/me/project my-project
#
# The times of the new snapshots are those of the pushes. Needs jq, and room for one snapshot.
set -euo pipefail
path=${1:?the directory, as restic has it}
context=${2:?the context}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CTXSYNC_STATE_DIR=$work/state

restic snapshots --json --path "$path" | jq -r 'sort_by(.time)[] | .short_id + " " + .time' | while read -r id time; do
  echo "$id of $time"
  rm -rf "$work/tree"
  restic restore --quiet "$id" --target "$work/tree"
  # Standard input is the list.
  ctxsync push --no-progress "$context" "$work/tree$path" </dev/null
done
