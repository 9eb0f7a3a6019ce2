# What a person types here. `make help` prints itself from the ## comments.
SHELL := /bin/bash
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .make
# Programs that tests and benchmarks run for real.
TEST_PROGRAMS := nginx redis-server pg_createcluster prometheus promtool openssl curl wget node npm
BENCH_PROGRAMS := nginx redis-server wrk
# Rooms without a socket or a clock; tests/house/pure.ini tells which files of theirs are meant.
PURE := core wire providers policy config

.DEFAULT_GOAL := help
.PHONY: help run test check bench fast pure recordings train clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(STAMPS)/local ## start the gateway with the bundled local model; prints a key and a curl
	@$(BIN)/python -m gateway serve --config policies --starter-key

# Tests start hundreds of processes: what Python compiles for one is kept for the others. Three processes keep two cores
# busy, as each waits now and then.
test: $(STAMPS)/dev $(STAMPS)/local ## install what the tests need, then run all of them
	@bash deploy/programs.sh $(TEST_PROGRAMS)
	@command -v npm >/dev/null && $(MAKE) --no-print-directory $(STAMPS)/node || true
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --no-loadscope-reorder

fast: $(STAMPS)/dev $(STAMPS)/local ## format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy gateway local_backend loadtests tests
	$(BIN)/lint-imports

pure: $(STAMPS)/dev ## the rooms that only decide keep every branch tested
	$(BIN)/python -m pytest --cov --cov-config=tests/house/pure.ini \
	  --ignore=tests/gateway/config/test_policies.py $(PURE:%=tests/gateway/%)

recordings: $(STAMPS)/dev ## what becomes of every recorded exchange with a provider, by provider and feature
	$(BIN)/python -m tests.contract.report

check: fast pure test ## all that CI checks

bench: $(STAMPS)/dev $(STAMPS)/local ## direct, nginx and the gateway side by side
	@bash deploy/programs.sh $(BENCH_PROGRAMS)
	$(BIN)/python -m loadtests bench

train: $(STAMPS)/local ## make the bundled model anew (about a quarter of an hour)
	$(BIN)/python -m local_backend.bundled.train

clean: ## remove everything that make made, the data folder excepted
	rm -rf $(VENV) $(STAMPS) build dist

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Gatehouse needs Python 3.11 or newer; try: make PYTHON=python3.14 run"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 15))' \
	  || { echo "for Python 3.15 there is no build of cel-expr-python yet; try: make PYTHON=python3.14 run"; exit 1; }
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing; install it and try again"; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/gateway: $(STAMPS)/venv requirements/gateway.lock
	@echo "installing what the gateway needs ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/gateway.lock
	@touch $@

# torch stays outside the lock: which build is right depends on the machine.
$(STAMPS)/local: $(STAMPS)/gateway requirements/local.lock
	@echo "installing what the local model needs (torch is large) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/local.lock
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

$(STAMPS)/node: tests/contract/node/package-lock.json
	@echo "installing the SDKs for JavaScript that tests talk with ..."
	@npm ci --prefix tests/contract/node --ignore-scripts --no-fund --no-audit --loglevel=error
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: $(STAMPS)/gateway requirements/dev.lock requirements/postgres.lock
	@echo "installing what tests and checks need ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	  -r requirements/dev.lock -r requirements/postgres.lock
	@touch $@
