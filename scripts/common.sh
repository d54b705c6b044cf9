# Sourced by the other scripts: where things are, and how messages look.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
BUILD=${BUILD:-build}

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
