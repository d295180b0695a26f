#!/usr/bin/env bash
# Make .venv with every pinned package. A second run finds it ready and returns at once.
# Usage: source infra/setup.sh   (sets VENV; expects Python 3.11 as python3.11 or python3)
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
# What the environment was made from: when these files change, it is brought up to date.
WANTED="$(cat "$ROOT/pyproject.toml" "$ROOT/infra/constraints.txt" | sha256sum | cut -d' ' -f1)"

if [ "$(cat "$VENV/.made-from" 2>/dev/null)" != "$WANTED" ]; then
  PYTHON="$(command -v python3.11 || command -v python3)"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; found $("$PYTHON" --version). Install python3.11 and its venv package." >&2
    exit 1
  }
  echo "Setting up $VENV (about three minutes the first time)"
  [ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$ROOT/infra/constraints.txt" --editable "$ROOT[test]"
  echo "$WANTED" > "$VENV/.made-from"
fi
export PATH="$VENV/bin:$PATH"
