# Every target sets itself up: a virtual environment in .venv with what it needs, made anew when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CRASH ?= null-deref@6.1
WORKERS ?= 2
PYTEST_ARGS ?=

.PHONY: help run test e2e lint types format bench lab wheel clean

help:            ## List the targets.
	@sed -n 's/^\([a-z0-9]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST)

run: $(VENV)/.run       ## Analyzer on loopback, agent over a recorded crash, the verdict; ONCE=1 stops after it.
	@$(BIN)/python fixtures/replay.py $(if $(ONCE),--once) 'fixtures/crashes/$(CRASH)'

test: $(VENV)/.test     ## Install what the tests need and run them all, by file in WORKERS processes.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

e2e: $(VENV)/.test      ## Let a Debian under QEMU die, with the agent installed in it. Takes root and many minutes.
	$(BIN)/python -m pytest -m guest tests/e2e/host $(PYTEST_ARGS)

lint: $(VENV)/.test     ## Style, import order, the rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/necropsy rules check

types: $(VENV)/.test    ## mypy --strict.
	$(BIN)/mypy

format: $(VENV)/.test   ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test    ## Print every figure as a ratio against a baseline in the same run.
	@for file in tests/bench/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

lab: $(VENV)/.test      ## Record crashes with QEMU: all, or those in SCENARIOS.
	$(BIN)/python fixtures/lab/lab.py $(SCENARIOS)

wheel: $(VENV)/.test    ## Build the wheel and the source archive into dist/.
	$(BIN)/python -m build

clean:           ## Remove what was made here.
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "necropsy needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null \
	  || { rm -rf $(VENV); [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv $(VENV); } \
	  || { echo "no virtual environment can be made: install python3-venv"; exit 1; }

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[analyzer]'
	@touch $@

$(VENV)/.test: pyproject.toml .ci/packages | $(VENV)/bin/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@.ci/packages
	@touch $@ $(VENV)/.run
