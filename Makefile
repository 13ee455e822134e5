# Every target does its own set-up: a virtual environment in .venv, made once and again when the requirements change.
# Needs python3 (3.11 or newer, with venv) and make.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help test book check-book pdf lab lint bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: $(READY)  ## run the tests (ARGS="-k metrics" chooses some, ARGS="-m slow" the long ones)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

book: $(READY)  ## execute the chapters and build the book into _build/html
	$(BIN)/python -m book.build

check-book: $(READY)  ## look at every built page in a browser without a network (needs chromium)
	$(BIN)/python -m book.check

pdf: $(READY)  ## print the book into _build/wsis.pdf, after make book (needs chromium)
	$(BIN)/python -m book.pdf

lab: $(READY)  ## open the chapters as notebooks in JupyterLab on this computer
	JUPYTER_CONFIG_PATH=$(CURDIR)/.jupyter $(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=. \
	  --LabApp.default_url=/lab/tree/notebooks $(ARGS)

lint: $(READY)  ## check style, formatting, types and the floors of the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(READY)  ## time the hot operations against their plain references, and measure the memory of the commands
	@mkdir -p book/results/benchmarks
	$(BIN)/python -m benchmarks --out book/results/benchmarks/cpu.json $(ARGS)
	$(BIN)/python -m benchmarks.memory --quick

clean:  ## remove what was built; the environment, runs and data stay
	rm -rf _build build dist book/chapters book/generated .pytest_cache .hypothesis .ruff_cache
	find wsis book tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "wsis needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "no virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e '.[photos,book,dev]'
	@touch $@
