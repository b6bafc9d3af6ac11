# Everything a person or CI does, by name. `make help` lists it.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 3
# Their processes wait more than they compute.
E2E_WORKERS ?= 4
# On real servers, in the test's own process.
SERVED := tests/integration tests/sandbox tests/sandbox_servers
PORT ?= 8000
export PIP_DISABLE_PIP_VERSION_CHECK := 1
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

.DEFAULT_GOAL := help
.PHONY: help run setup setup-run test others unit integration property e2e lint types audit docs bench nightly lock clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup-run ## start everything with demo data; prints the console's address and an admin token
	@$(BIN)/billing-service dev --port $(PORT)

setup: $(VENV)/.test ## make .venv with everything the tests need

setup-run: $(VENV)/.run

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "There is no Python here: install Python 3.11 or later."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: Python 3.11 or later is needed."; exit 1; }
	@echo "Making the virtual environment ..."
	@$(PYTHON) -m venv $(VENV) || { echo "The virtual environment could not be made (on Debian: apt-get install python3-venv)."; rm -rf $(VENV); exit 1; }

# The lock files are complete, so nothing is resolved and every file's hash is checked.
define install
	@echo "Installing $(1) (the first time it is downloaded) ..."
	@$(BIN)/python -m pip install --no-deps --require-hashes --progress-bar off -r $(1) \
		| awk -v total=$$(grep -cE '^[A-Za-z0-9_.-]+==' $(1)) '/^(Collecting|Requirement already)/ {printf "\r  %d of %d packages", ++n, total; fflush()} END {print ""}' \
		|| { echo "Installing failed: pip says why above. Without network nothing can be installed."; exit 1; }
endef

$(VENV)/.run: $(BIN)/python requirements/run.txt setup.cfg pyproject.toml
	$(call install,requirements/run.txt)
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt requirements/openapi.txt
	$(call install,requirements/test.txt)
	$(call install,requirements/openapi.txt)
	@touch $@

test: lint types ## everything, on a fresh machine; a quarter of an hour on two cores
	@echo "Testing: the end-to-end tests beside all others. Each of both is shown when it has ended."
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target e2e others

others: setup
	$(PYTEST) tests/unit $(SERVED) tests/property -n $(WORKERS) --dist loadfile

unit: setup ## rules on values; no servers, sockets blocked
	$(PYTEST) tests/unit

integration: setup ## endpoints, jobs and documents on real servers
	$(PYTEST) $(SERVED) -n $(WORKERS) --dist loadfile

property: setup ## generated schedules against the real servers
	$(PYTEST) tests/property -n $(WORKERS) --dist loadfile

e2e: setup ## all processes of the product
	$(PYTEST) tests/e2e -n $(E2E_WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup ## style and unused code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## static types
	$(BIN)/mypy

audit: setup ## known weaknesses of the packages that are used
	$(BIN)/python requirements/audit.py

docs: setup ## write the references that follow from the code: configuration, API, doctor
	$(BIN)/python docs/generate.py

bench: setup ## measure, side by side in one run (BENCH=quick: a minute)
	$(BIN)/python -m benchmarks

nightly: setup ## the long version of all tests
	BILLING_TESTS=long $(MAKE) test

lock: $(BIN)/python ## pin all dependencies anew, with hashes
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --extra embedded -o requirements/run.txt setup.cfg requirements/build.in
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --extra test -c requirements/run.txt -o requirements/test.txt setup.cfg requirements/build.in

clean: ## remove the virtual environment and all local data
	rm -rf $(VENV) .data build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
