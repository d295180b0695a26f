#!/usr/bin/env bash
# One command from a fresh machine to generated clips: the environment, then `vdp demo`.
# Usage: bash infra/demo.sh [a.b=c ...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
exec vdp demo "$@"
