#!/usr/bin/env bash
# Builds the daemon and the Python extension, and makes `rtswap` and `rtswapd` commands of $VENV.
#
#   scripts/build.sh [--tests]
set -euo pipefail
source "$(dirname "$0")/common.sh"

options=(-DRTSWAP_WITH_PYTHON=ON "-DPython3_EXECUTABLE=$PWD/$VENV/bin/python")
if [[ ${1:-} == --tests ]]; then
  options+=(-DRTSWAP_WITH_TESTS=ON)
elif [[ ! -e $BUILD/CMakeCache.txt ]]; then
  options+=(-DRTSWAP_WITH_TESTS=OFF)
fi

# Configuring asks torch for its paths, which takes seconds: only when there is a reason to.
reason=$BUILD/.rtswap-configured
if [[ ! -e $BUILD/build.ninja || ! -e $reason || $(<"$reason") != "${options[*]}" ]]; then
  say "Configuring $BUILD/"
  cmake -S . -B "$BUILD" -G Ninja "${options[@]}" >"$BUILD.log" 2>&1 || {
    cat "$BUILD.log" >&2
    die "cmake failed; its words are above"
  }
  mv "$BUILD.log" "$BUILD/configure.log"
  echo "${options[*]}" >"$reason"
fi

say "Building (the first time: a few minutes)"
NINJA_STATUS="[%f/%t, %es] " cmake --build "$BUILD"
cmake --install "$BUILD" --prefix "$PWD" >/dev/null

installed=$VENV/.rtswap-installed
if [[ ! -e $installed || setup.py -nt $installed || pyproject.toml -nt $installed ]]; then
  say "Installing the commands rtswap and rtswapd into $VENV"
  RTSWAP_BUILD_DIR=$BUILD "$VENV/bin/python" -m pip install --disable-pip-version-check -q \
    --no-build-isolation --no-deps --editable .
  touch "$installed"
fi
