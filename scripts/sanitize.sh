#!/usr/bin/env bash
# The C++ tests under a sanitizer, in a build directory of its own.
#
#   scripts/sanitize.sh address   address and undefined behaviour
#   scripts/sanitize.sh thread
set -euo pipefail
source "$(dirname "$0")/common.sh"
sanitizer=${1:?address or thread}

case $sanitizer in
  address) folder=build-asan run=() ;;
  # Fewer random address bits than newer kernels use: the thread sanitizer of gcc 12 needs that.
  thread) folder=build-tsan run=(setarch --addr-no-randomize) ;;
  *) die "no such sanitizer: $sanitizer (address or thread)" ;;
esac
# The system's gRPC is not instrumented: reports from inside it say nothing.
export TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1:second_deadlock_stack=1
TSAN_OPTIONS+=:suppressions=$PWD/scripts/tsan.supp
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1

cmake -S . -B "$folder" -G Ninja -DRTSWAP_SANITIZER="$sanitizer" -DRTSWAP_WITH_TESTS=ON
cmake --build "$folder"
"${run[@]}" ctest --test-dir "$folder" --output-on-failure --timeout 2400
