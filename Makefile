.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check bench clean

PYTHON ?= python3
BIN := .venv/bin

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: .venv/ready  ## make .venv with the pinned versions

demo: setup  ## the whole path on the bundled sample: minutes; ends with a table and a page
	$(BIN)/mpm demo --out demo_out --overwrite

test: setup check  ## lint, types and every test but the slow ones
	$(BIN)/python -m pytest

test-slow: setup  ## the long tests: full data, kills
	$(BIN)/python -m pytest -m slow

check: setup  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## how fast, as ratios against bare loops
	$(BIN)/python -m tests.benchmarks

clean:  ## remove what demo and the tools made
	rm -rf demo_out .mypy_cache .ruff_cache .pytest_cache .hypothesis
