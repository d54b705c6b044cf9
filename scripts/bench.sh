#!/usr/bin/env bash
# Builds and runs the benchmarks that need no GPU.
set -euo pipefail
source "$(dirname "$0")/common.sh"

cmake -S . -B build-bench -G Ninja -DCMAKE_BUILD_TYPE=Release -DRTSWAP_WITH_BENCH=ON \
  -DRTSWAP_WITH_TESTS=OFF
cmake --build build-bench
for benchmark in build-bench/bench_*; do
  [[ -x $benchmark && -f $benchmark ]] || continue
  say "$(basename "$benchmark")"
  "$benchmark"
done
