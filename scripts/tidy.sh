#!/usr/bin/env bash
# clang-tidy over everything that make build compiled; .clang-tidy says what is checked.
set -euo pipefail
source "$(dirname "$0")/common.sh"

command -v clang-tidy >/dev/null || die "clang-tidy is not installed: apt-get install clang-tidy"
[[ -e $BUILD/compile_commands.json ]] || die "nothing is built yet: run make build"
mapfile -t sources < <(git ls-files 'csrc/*.cc' 'daemon/*.cc' | grep -v '^csrc/python/\|^csrc/torch/')
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p "$BUILD"
