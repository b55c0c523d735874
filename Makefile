.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-cluster check bench bench-accuracy weights clean

MOCAP ?= mocap

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

test-cluster: setup  ## a cluster of three hosts that loses one, for real; as root, some ten minutes
	$(BIN)/python tests/cluster/netlab.py
	$(BIN)/python -m pytest tests/cluster -m "slow or not slow"

check: setup  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## how fast, as ratios against bare loops
	$(BIN)/python -m tests.benchmarks

bench-accuracy: setup  ## an hour on two cores: paper's configuration and ours on held-out people; MOCAP=folder
	$(BIN)/python -m tests.benchmarks.accuracy --archives $(MOCAP)

weights: setup  ## half an hour on two cores: the weights that ship, again; MOCAP=folder of cmu.tar.xz etc.
	$(BIN)/python -m pipelines.weights $(MOCAP)

clean:  ## remove what demo and the tools made
	rm -rf demo_out .mypy_cache .ruff_cache .pytest_cache .hypothesis
