# Twinship: the verbs of this folder. `make` alone lists them.
PYTHON_FOR_VENV ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
PROJECTS := edgekit modules/camera_sim modules/inference training
INPUTS := constraints.txt pyproject.toml $(PROJECTS:%=%/pyproject.toml)
PYTEST := $(PY) -m pytest -n 2
.DEFAULT_GOAL := help

.PHONY: help setup demo bench test test-long conformance check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/ready ## the virtual environment, from constraints.txt

.venv/ready: $(INPUTS)
	@[ "$$(uname -s)/$$(uname -m)" = Linux/x86_64 ] || { echo "twinship: the workbench runs on Linux x86-64 (or WSL2), not on $$(uname -s)/$$(uname -m)" >&2; exit 1; }
	@"$(PYTHON_FOR_VENV)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo "twinship: needs Python 3.11, found '$$("$(PYTHON_FOR_VENV)" --version 2>&1)'; install it or name it: make PYTHON_FOR_VENV=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up .venv (about a minute, once) ..."
	@"$(PYTHON_FOR_VENV)" -m venv --clear .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel hatchling editables
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt $(PROJECTS:%=-e ./%) -e '.[dev]'
	@touch $@

demo: .venv/ready ## train, ship by twin, run 300 frames, swap the model, show the figures (CAMERA_FOLDER=, FRAMES=)
	@$(PY) -m twinship demo $(if $(FRAMES),--frames $(FRAMES)) $(if $(CAMERA_FOLDER),--camera-folder "$(CAMERA_FOLDER)")

bench: .venv/ready ## the measurements of every day (6 minutes); build/bench/report.json and report.html
	@$(PY) -m twinship bench

test: .venv/ready check ## every check and test that takes under ten minutes
	@$(PYTEST) -m 'not long' tests

test-long: .venv/ready ## the tests that take longer
	@$(PYTEST) -m long tests

conformance: .venv/ready ## every statement of the protocol reference against the simulator; build/conformance.json
	@$(PYTEST) -q --conformance=build/conformance.json tests/conformance

check: .venv/ready ## ruff and mypy
	@$(PY) -m ruff format --check --quiet . || { echo "cure: .venv/bin/python -m ruff format ." >&2; exit 1; }
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy --no-error-summary

clean: ## remove build/ and caches; keeps .venv, .env and your signing keys
	@rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@echo "Removed build/ and the caches. Kept: .venv, .env and your signing keys."
