# `make help` lists what can be made. PYTHON chooses the interpreter, VENV where the environment goes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := ga2clip ga2clip_cli export tests benchmarks scripts

.DEFAULT_GOAL := help
.PHONY: help venv check format test test-all fuzz kill-trials mutants demo bench bench-gpu docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.dev ## a virtual environment with everything that development needs

check: $(VENV)/.dev ## lint, format check and type check
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/.dev ## put the code into the project's format
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# One thread per worker: two torch processes with two threads each are slower on two cores.
test: check ## check, then the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-all: check ## check, then every test, the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'slow or not slow'

# Fresh numbers each time; EXAMPLES are for each of the readers.
EXAMPLES ?= 3000
fuzz: $(VENV)/.dev ## damaged files for every reader of bytes from outside (EXAMPLES=3000 each)
	GA2CLIP_FUZZ=$(EXAMPLES) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/fuzz

kill-trials: $(VENV)/.train ## kill commands at random moments N times (20), and compare what they end with
	$(BIN)/python scripts/kill_trials.py $(or $(N),20)

mutants: $(VENV)/.dev ## small wrong edits: which of them the fast tests let through
	$(BIN)/python scripts/mutants.py

demo: $(VENV)/.train ## the whole path on the built-in data, into demo/
	PATH="$(abspath $(BIN)):$$PATH" bash scripts/demo.sh demo

bench: $(VENV)/.dev ## the main speed ratios in a few minutes, beside those of last time (bench.json)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ratios.py

bench-gpu: $(VENV)/.dev ## encoder, files and training on a GPU; GPU='--device cpu --small' tries the script itself
	$(BIN)/python benchmarks/gpu.py $(GPU)

docs: $(VENV)/.train ## write the generated tables of docs/ and the stored table of methods anew
	$(BIN)/python scripts/write_method_table.py
	for page in settings backbones; do \
	  { sed '/^<!-- generated -->$$/q' docs/$$page.md; $(BIN)/ga2clip $$page --markdown; } > docs/$$page.new \
	    && mv docs/$$page.new docs/$$page.md || exit 1; \
	done

clean: ## remove the environment and what demo and tests left
	rm -rf .venv demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: ga2clip needs Python 3.10 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "hint: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.train: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[train]'
	touch $@

$(VENV)/.dev: $(VENV)/.train
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[train,dev]'
	touch $@
