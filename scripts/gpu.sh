#!/usr/bin/env bash
# Builds on a machine with a GPU, runs every GPU test and the benchmarks, in one call.
#
#   scripts/gpu.sh [OUT]        results and logs go to OUT (default bench/results)
#
# Uses the python3 (with a CUDA torch) and the libraries found; .gpu-deps/activate, if there is one,
# names a prefix with gRPC and the small libraries for machines that reach no package registry.
# STEPS="build driver bench start peers promises profiles python two" chooses steps. The peers are
# measured where they are installed: torch_memory_saver, comfy_aimdo.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-bench/results}
steps=${STEPS:-build driver bench start peers promises profiles python two}
build=${BUILD:-build-gpu}
mkdir -p "$out"
# shellcheck disable=SC1091
[ -f .gpu-deps/activate ] && source .gpu-deps/activate
export RTSWAPD=$PWD/$build/rtswapd PYTHONPATH=$PWD PYTHONUNBUFFERED=1
status=0

step() { # step NAME COMMAND...: runs it when chosen, remembers failure, goes on
  local name=$1
  shift
  case " $steps " in *" $name "*) ;; *) return 0 ;; esac
  echo "== $name"
  local begin=$SECONDS
  if ! "$@" 2>&1 | tee "$out/$name.log"; then
    echo "== $name FAILED"
    status=1
    [ "$name" = build ] && exit 1
  fi
  echo "== $name: $((SECONDS - begin)) s"
}

build_all() {
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DRTSWAP_WITH_PYTHON=ON \
    -DRTSWAP_WITH_BENCH=ON -DPython3_EXECUTABLE="$(command -v python3)" >"$out/configure.log" 2>&1 ||
    { tail -30 "$out/configure.log"; return 1; }
  cmake --build "$build" --target rtswapd rtswap_grpc rtswap_core bench_grant_latency \
    bench_swap_speed test_gpu_driver 2>&1 | tail -40
  cmake --install "$build" --prefix "$PWD" >/dev/null
}

gpu_name() { python3 -c 'import torch; print(torch.cuda.get_device_name())' 2>/dev/null || true; }

two_gpus() {
  if [ "$(python3 -c 'import torch; print(torch.cuda.device_count())')" -lt 2 ]; then
    echo "skipped: needs two GPUs"
    return 0
  fi
  local failed=0
  python3 -m pytest -v tests/gpu/python/test_two_gpus.py || failed=1
  python3 -m bench.two_gpus --output "$out/two_gpus.json" || failed=1
  return $failed
}

step build build_all
step driver "$build/test_gpu_driver"
step bench python3 -m bench.first_light --output "$out/first_light.json" \
  --grant-latency "$build/bench_grant_latency"
step start python3 -m bench.start --output "$out/start.json"
step peers python3 -m bench.peers --swap-speed "$build/bench_swap_speed" --output "$out/peers.json"
step promises python3 -m bench.promises --output "$out/promises.json"
step profiles python3 -m bench.measure_profiles --name "$(gpu_name)" --output "$out/profiles.json"
step python python3 -m pytest -v tests/gpu/python --ignore tests/gpu/python/test_two_gpus.py
step two two_gpus
exit $status
