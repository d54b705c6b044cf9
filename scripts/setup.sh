#!/usr/bin/env bash
# Installs what is missing, and says before what that is and how large.
#
#   scripts/setup.sh run    what `make build` and `make demo` need
#   scripts/setup.sh test   the same and what the tests need
set -euo pipefail
source "$(dirname "$0")/common.sh"
purpose=${1:-run}

torch_version=2.13.0
torchvision_version=0.28.0 # of this torch
torch_cpu_index=https://download.pytorch.org/whl/cpu

# Debian 12 and Ubuntu 24.04 call them the same.
system_packages=(
  g++ cmake ninja-build protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libgrpc++-dev
  libgrpc-dev libabsl-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libspdlog-dev
  libfmt-dev libexpected-dev
)
python_packages=("setuptools>=77" wheel numpy matplotlib rich typer)
if [[ $purpose == test ]]; then
  system_packages+=(catch2)
  # The exact versions of pyproject.toml.
  mapfile -t tools < <(sed -n '/^dev = \[/,/^\]/s/^ *"\([^"]*\)",.*$/\1/p' pyproject.toml)
  ((${#tools[@]})) || die "pyproject.toml has no list of dev packages"
  python_packages+=("${tools[@]}")
fi

missing_system_packages() {
  local package
  for package in "${system_packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
  done
  # Only a Python that comes from Debian takes its headers and its venv from Debian.
  "$PYTHON" -c 'import ensurepip' 2>/dev/null || [[ -x $VENV/bin/python ]] || echo python3-venv
  "$PYTHON" -c 'import os, sysconfig, sys
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || echo python3-dev
}

# Folder of the torch that $PYTHON imports; nothing where there is none.
torch_of_python() {
  "$PYTHON" -c 'import importlib.util, os
spec = importlib.util.find_spec("torch")
print(os.path.dirname(os.path.dirname(spec.origin)) if spec and spec.origin else "")' 2>/dev/null || true
}

has_nvidia_gpu() { [[ -e /dev/nvidiactl || -e /dev/dxg ]]; }

# Words, eight columns in, wrapped.
list() { echo "$*" | fold -s -w 88 | sed "s/^/        /"; }

announce() {
  say "To be installed:"
  if ((${#missing[@]})); then
    echo "    by apt, about 110 MB to load and 450 MB on disk when nothing of it is there yet:"
    list "${missing[@]}"
  fi
  if [[ -n $found_torch ]]; then
    echo "    no torch: the one in $found_torch is used"
  elif [[ ! -e $VENV/.rtswap-torch ]]; then
    if has_nvidia_gpu; then
      echo "    torch $torch_version with CUDA into $VENV, about 2.5 GB to load and 6 GB on disk"
    else
      echo "    torch $torch_version for CPUs into $VENV, about 190 MB to load and 850 MB on disk"
      echo "        (where no such build is to be had: the default one, 2.5 GB to load, 6 GB on disk)"
    fi
  fi
  if [[ $purpose == test ]]; then
    echo "    into $VENV, about 110 MB to load and 420 MB on disk:"
  else
    echo "    into $VENV, about 40 MB to load and 160 MB on disk:"
  fi
  list "${python_packages[@]}"
}

install_system_packages() {
  if ((EUID != 0)); then
    die "system packages are missing and only root can install them; run this, then try again:
    sudo apt-get install --no-install-recommends ${missing[*]}"
  fi
  say "Installing system packages"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  apt-get install -q -y --no-install-recommends "${missing[@]}"
}

make_environment() {
  if [[ ! -x $VENV/bin/python ]]; then
    say "Creating the virtual environment $VENV with $("$PYTHON" --version)"
    "$PYTHON" -m venv "$VENV"
  fi
  # A .pth file makes a torch outside of the environment importable, wherever it lies.
  local site
  site=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  if [[ -n $found_torch && $found_torch != "$site" ]]; then
    echo "$found_torch" >"$site/rtswap-torch.pth"
    touch "$VENV/.rtswap-torch"
  fi
}

# A CPU build that pip's own sources have, else the CPU index, else the default build.
install_torch() {
  local pip=("$VENV/bin/python" -m pip install --disable-pip-version-check)
  say "Installing torch $torch_version"
  if has_nvidia_gpu; then
    "${pip[@]}" "torch==$torch_version"
  else
    "${pip[@]}" "torch==$torch_version+cpu" 2>/dev/null ||
      "${pip[@]}" --index-url "$torch_cpu_index" "torch==$torch_version" ||
      "${pip[@]}" "torch==$torch_version"
  fi
  touch "$VENV/.rtswap-torch"
}

# Which state the environment is in: changes when this file or a pinned version does.
stamp=$VENV/.rtswap-setup-$purpose
fingerprint=$(cat scripts/setup.sh pyproject.toml | cksum)

missing=()
if command -v dpkg-query >/dev/null; then
  mapfile -t missing < <(missing_system_packages)
else
  say "Not a Debian system: please see to these packages yourself: ${system_packages[*]}"
fi
if ((${#missing[@]} == 0)) && [[ -e $stamp && $(<"$stamp") == "$fingerprint" ]]; then
  exit 0
fi

found_torch=$(torch_of_python)
announce
((${#missing[@]} == 0)) || install_system_packages
make_environment
[[ -e $VENV/.rtswap-torch ]] || install_torch
say "Installing Python packages"
"$VENV/bin/python" -m pip install --disable-pip-version-check "${python_packages[@]}"
if [[ $purpose == test && -z $found_torch ]]; then
  # Models that tests swap. Without its dependencies: it would replace torch's build by another.
  "$VENV/bin/python" -m pip install --disable-pip-version-check --no-deps \
    "torchvision==$torchvision_version" pillow
fi
echo "$fingerprint" >"$stamp"
say "Set up: $("$VENV/bin/python" -c 'import sys, torch; print("Python", sys.version.split()[0], "with torch", torch.__version__)')"
