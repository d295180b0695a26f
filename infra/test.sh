#!/usr/bin/env bash
# One command from a fresh machine to a verdict: formatter, linter, types, tests.
# Usage: bash infra/test.sh [pytest arguments]     slower checks: bash infra/test.sh -m slow
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
ruff format --check .
ruff check .
mypy
if (($#)); then
  exec pytest -q "$@"
fi

# Two at once: tests of jobs spend half of their time waiting for processes to start.
log="$(mktemp)"
pytest -q tests/jobs tests/pipelines >"$log" 2>&1 &
jobs=$!
trap 'kill "$jobs" 2>/dev/null || true; rm -f "$log"' EXIT
status=0
pytest -q tests --ignore=tests/jobs --ignore=tests/pipelines || status=$?
wait "$jobs" || status=$?
cat "$log"
exit "$status"
