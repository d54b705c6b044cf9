#!/usr/bin/env bash
# Style and types. A tool that is not installed is skipped, and said to be.
set -uo pipefail
source "$(dirname "$0")/common.sh"

failed=0
check() {
  local tool=$1
  shift
  if command -v "$tool" >/dev/null; then
    "$tool" "$@" || failed=1
  else
    echo "skipped: $(basename "$tool") is not installed"
  fi
}

mapfile -t sources < <(git ls-files 'csrc/*.h' 'csrc/*.cc' 'daemon/*.h' 'daemon/*.cc' \
  'tests/*.h' 'tests/*.cc' 'bench/*.cc')
check clang-format --dry-run -Werror "${sources[@]}"
check "$VENV/bin/ruff" check --quiet .
check "$VENV/bin/ruff" format --check --quiet .
check "$VENV/bin/mypy"
exit $failed
