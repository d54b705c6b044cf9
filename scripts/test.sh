#!/usr/bin/env bash
# Builds and runs every test; the last line sums up. Goes on after a failure, so that one run shows
# everything that is wrong.
set -uo pipefail
source "$(dirname "$0")/common.sh"
begin=$SECONDS

scripts/build.sh --tests || die "the build failed"

summary=()
failed=0
part() {
  local name=$1
  shift
  say "$name"
  local since=$SECONDS
  if "$@"; then
    summary+=("$name passed in $((SECONDS - since)) s")
  else
    summary+=("$name FAILED")
    failed=1
  fi
}

part "C++ tests" ctest --test-dir "$BUILD" --output-on-failure --timeout 300 --parallel "$(nproc)"
part "Python tests" "$VENV/bin/python" -m pytest
part "Style" scripts/lint.sh

printf '\n'
say "make test: $(printf '%s; ' "${summary[@]}")$((SECONDS - begin)) s in all"
exit $failed
