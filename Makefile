# `make` alone prints this help. Every act sets up .venv by itself, once (again when the lock file changes).

PYTHON ?= python3
JOBS   ?= 2

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
EXPORTERS := $(VENV)/.exporters
BROWSER := $(VENV)/.browser

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all exporters lint format docs clean

help:  ## print this help
	@echo "usage: make ACT [PYTHON=python3.12] [JOBS=2]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r act what; do printf '%-12s %s\n' "$$act" "$$what"; done

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than Python 3.11; say which to use: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# Tried once: without a browser the tests of the HTML report that need one are skipped.
$(BROWSER): $(READY)
	@$(BIN)/python -m tests.report.install || true
	@touch $@

setup: $(READY)  ## install everything into .venv

demo: $(READY)  ## compile the shipped model, generate text, show cycles, joules and the listing (< 3 min)
	@$(BIN)/python -m runtime.cli.demo

test: $(READY) $(BROWSER)  ## the tests, without the slow ones (< 10 min on 2 cores)
	@$(BIN)/python -m pytest -q -rs -n $(JOBS)

# Without the exporters their tests are skipped, which the summary says; nothing else needs them.
test-all: $(READY) $(BROWSER)  ## all tests, those with fresh exports too (installs requirements-exports.lock if it can)
	@test $(EXPORTERS) -nt requirements-exports.lock || $(MAKE) --no-print-directory exporters \
	  || echo "note: the packages of requirements-exports.lock cannot be installed here: no fresh exports are tested" >&2
	@$(BIN)/python -m pytest -q -rs -n $(JOBS) -m ""

exporters: $(READY)  ## install what tests/exports needs (torch and others, 1 GB) into .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -r requirements-exports.lock
	@touch $(EXPORTERS)

lint: $(READY)  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## format the sources, sort their imports
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

docs: $(READY)  ## write the generated documents (docs/isa.md, ops.md, targets.md, diagnostics.md) again
	@$(BIN)/python -m runtime.cli.docs

clean:  ## remove .venv, caches and build results
	rm -rf $(VENV) build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
