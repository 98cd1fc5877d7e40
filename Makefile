# make demo   sweep, fit and report on this machine, from text that is already on it
# make test   the test suite: no GPU, no network beyond the package index, no server left running
# make test-long  what injects faults into real stacks one by one: half an hour and more
# make notebooks   run the notebooks and store their outputs, figures as pictures (Chromium)
# make mutants ROOM=analysis/fit   what one-line faults the room's fast tests notice; COUNT=20 SEED=0
# make docs   the documentation as a site in build/site/html; its links and anchors are checked
# make chaos  kill, fill, cut and flip whatever a sweep stands on, and print what it cost
#
# PYTHON=python3.12        another interpreter (3.11 or newer)
# TORCH_INDEX=URL          take torch from this package index, for example PyTorch's CPU index
PYTHON ?= python3
TORCH_INDEX ?=
COUNT ?= 20
SEED ?= 0

BIN := .venv/bin
# Python compiles the modules that are imported; pip would compile five times as many for a minute.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check \
  --constraint constraints.txt

.PHONY: setup demo test docs test-long test-all lint types bench chaos mutants notebooks clean

setup: .venv/ready

# What the demo needs; the tools of development come on top of it.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "isoflop needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "setting up .venv, once; pip is silent while it works, and slower on a busy machine"
	@echo "1. PyTorch, the largest part: a minute or two, more with CUDA"
	@$(PYTHON) -m venv .venv || \
	  { echo "this Python cannot make a venv; on Debian: apt install python3-venv" >&2; exit 2; }
ifneq ($(TORCH_INDEX),)
	@$(PIP) --no-deps --index-url $(TORCH_INDEX) torch
endif
	@$(PIP) torch
	@echo "2. isoflop and some 170 packages that it needs: two minutes or more"
	@$(PIP) --editable .
	@touch $@

.venv/ready: .venv/installed
	@echo "3. what tests and checks need, some 110 packages: a minute or more"
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: .venv/installed
	@$(BIN)/isoflop sweep demo

# Files in their order, so that servers and trainings begin first and none is left for the end.
test: setup
	@$(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile --no-loadscope-reorder

docs: setup
	@$(BIN)/python -m docs.site

chaos: setup
	@$(BIN)/python -m tests.chaos.table --times 3

mutants: setup
	@$(BIN)/python -m tests.mutants $(ROOM) --count $(COUNT) --seed $(SEED)

notebooks: setup
	@$(BIN)/python -m tests.notebooks

test-long: setup
	@$(BIN)/python -m pytest -m long

test-all: setup
	@$(BIN)/python -m pytest

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

types: setup
	@$(BIN)/mypy

bench: setup
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || true; done

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build *.egg-info
