# Targets need Python 3.11 or newer and make; the virtual environment is set up by the first of them.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A worker that has nothing left takes over tests of the other; each module stays with one worker
# as far as possible, for its fixtures.
PYTEST_ARGS ?= -n 2 --dist=worksteal
# What the tests need beside the package itself.
EXTRAS := browser,dev,docs,export,log,nlb,notebooks,plots,search
# bfloat16.py needs a recording.
BENCHMARKS := train_step members growth inference eight_runs compilations prepare_nwb

# $(call first_python,CANDIDATES,CONDITION): the first candidate that runs and whose version fits.
first_python = for python in $(1); do \
	"$$python" -c 'import sys; sys.exit(not sys.version_info[:2] $(2))' 2>/dev/null \
	&& echo "$$python" && break; done
PYTHON = $(shell $(call first_python,python3.11 python3,>= (3, 11)))

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-versions lint docs bench clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

demo: $(STAMP)  ## train on a synthetic population and score it
	$(BIN)/stndt demo

test: $(STAMP)  ## run the tests (PYTEST_ARGS="-k masking" for some)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-long: $(STAMP)  ## run the long tests, which make test leaves out
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m long

test-versions:  ## run the tests on each Python found, oldest and newest packages (ONLY=3.13-oldest)
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found." >&2; exit 1; }
	@$(PYTHON) tools/versions.py --extras=$(EXTRAS) --only=$(ONLY) -- $(PYTEST_ARGS)

lint: $(STAMP)  ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)  ## build the site in docs/_build/html; a warning fails
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html

bench: $(STAMP)  ## run the benchmarks
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:  ## remove caches and builds, not the environments
	rm -rf build dist docs/_build docs/generated *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -prune -exec rm -rf {} +

# The stamp is touched last, so an installation that was interrupted starts again. nlb_tools goes in
# without its dependencies (setup.py says why).
$(STAMP): setup.py
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		python="$(PYTHON)"; \
		test -n "$$python" || { echo "No Python 3.11 or newer was found: install one, or name it" \
			"with PYTHON=/path/to/python." >&2; exit 1; }; \
		echo "Setting up $(VENV), which takes a minute or two."; \
		"$$python" -m venv --clear $(VENV); }
	$(BIN)/python -m pip install -q -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install -q --no-deps nlb_tools==0.0.4
	@touch $@
