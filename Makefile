# `make demo` and `make test` work from a fresh Debian 12 with git, python3, make and root: they say
# what they will install, then install only what is missing. Both are quick the second time.
#
#   PYTHON=python3.12 make setup    another Python; a torch that it can import is used as it is
#   BUILD=build-x make build        another build directory
#   DEMO='--strict --quick' make demo    other options of `rtswap demo`

PYTHON ?= python3
VENV ?= .venv
BUILD ?= build
DEMO ?= --report demo-report
export PYTHON VENV BUILD

.PHONY: help setup build demo test lint tidy asan tsan bench bench-schedulability clean

help:
	@echo "make demo    four models on a device too small for them: naive swapping, then rtswap;"
	@echo "             the picture and all figures go to demo-report/"
	@echo "make test    every test: C++, Python, style"
	@echo "make setup   system packages, virtual environment, torch (says first what and how large)"
	@echo "make build   daemon and Python extension into $(BUILD)/ and rtswap/"
	@echo "make lint    clang-format, ruff, mypy      make tidy   clang-tidy (slow)"
	@echo "make asan    C++ tests with the address and undefined behaviour sanitizers"
	@echo "make tsan    C++ tests with the thread sanitizer"
	@echo "make bench   C++ benchmarks"
	@echo "make bench-schedulability    how many task sets can be promised (docs/schedulability.md);"
	@echo "             half an hour; SCHEDULABILITY='--sets 200' for minutes and wider intervals"
	@echo "make clean   removes $(BUILD)*/ and what was built into rtswap/; keeps $(VENV)"

setup:
	@scripts/setup.sh run

build: setup
	@scripts/build.sh

demo: build
	@$(VENV)/bin/rtswap demo $(DEMO)

test:
	@scripts/setup.sh test
	@scripts/test.sh

lint:
	@scripts/setup.sh test
	@scripts/lint.sh

tidy:
	@scripts/tidy.sh

asan:
	@scripts/sanitize.sh address

tsan:
	@scripts/sanitize.sh thread

bench:
	@scripts/setup.sh test
	@scripts/bench.sh

bench-schedulability: build
	@$(VENV)/bin/python -m bench.schedulability $(SCHEDULABILITY)

clean:
	rm -rf build build-*/ dist *.egg-info rtswap/bin
	rm -f rtswap/_core*.so rtswap/librtswap_grpc.so rtswap/demo/models.py $(VENV)/.rtswap-installed
