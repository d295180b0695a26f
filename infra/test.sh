#!/usr/bin/env bash
# One command from a fresh machine to a verdict: formatter, linter, types, tests.
# Usage: bash infra/test.sh [pytest arguments]     slower checks: bash infra/test.sh -m slow
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
ruff format --check .
ruff check .
mypy
exec pytest -q "$@"
