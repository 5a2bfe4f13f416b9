# `make` alone lists the commands.
PYTHONS := python3.11 python3.13 python3.12 python3
SUITABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON_FOR_VENV ?= $(shell for each in $(PYTHONS); do "$$each" -c '$(SUITABLE)' >/dev/null 2>&1 && { echo "$$each"; break; }; done)
PY := .venv/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
OURS := --no-index --no-deps --no-build-isolation # our names never come from an index
PROJECTS := edgekit modules/camera_sim modules/dashboard modules/inference training
INPUTS := VERSION distributions.py pyproject.toml $(PROJECTS:%=%/pyproject.toml)
PYTEST := $(PY) -m pytest -n 2 --dist worksteal
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--annotation-style line --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) \
	$(addprefix --no-emit-package ,twinship twinship-training edgekit camera-sim dashboard inference)
.DEFAULT_GOAL := help

.PHONY: help setup demo bench test test-long test-containers images pin-base unit e2e clients conformance check coverage lock wheels clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

setup: .venv/ready ## the virtual environment, from requirements.lock (PYTHON_FOR_VENV=)

.venv/locked: requirements.lock
	@[ "$$(uname -s)/$$(uname -m)" = Linux/x86_64 ] || { echo "twinship: the workbench runs on Linux x86-64 (or WSL2), not on $$(uname -s)/$$(uname -m)" >&2; exit 1; }
	@"$(PYTHON_FOR_VENV)" -c '$(SUITABLE)' 2>/dev/null || { echo "twinship: needs Python 3.11, 3.12 or 3.13 with venv (Debian, Ubuntu: apt install python3-venv), found '$$("$(or $(PYTHON_FOR_VENV),python3)" --version 2>&1)'; or name one: make PYTHON_FOR_VENV=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up .venv with $$("$(PYTHON_FOR_VENV)" --version) (one to two minutes, once) ..."
	@"$(PYTHON_FOR_VENV)" -m venv --clear .venv
	@$(PIP) install --require-hashes -r requirements.lock
	@touch $@

.venv/ready: .venv/locked $(INPUTS)
	@$(PIP) install $(OURS) $(PROJECTS:%=-e ./%) -e .
	@touch $@

demo: .venv/ready ## train, ship by twin, run 300 frames, swap the model, show the figures (CAMERA_FOLDER=, CAMERA_SOURCE=, FRAMES=, DASHBOARD=1, OPEN=1)
	@$(PY) -m twinship demo $(if $(FRAMES),--frames $(FRAMES)) $(if $(CAMERA_FOLDER),--camera-folder "$(CAMERA_FOLDER)") $(if $(DASHBOARD),--template deployment.dashboard.template.json) $(if $(OPEN),--open)

bench: .venv/ready ## the everyday measurements (8 minutes); build/bench/report.json and report.html
	@$(PY) -m twinship bench

test: .venv/ready check ## every check and every test that takes under ten minutes
	@$(PYTEST) -m 'not long' tests

test-long: .venv/ready ## the tests that take longer
	@$(PYTEST) -m 'long or client' --clients=build/clients.json tests

test-containers: .venv/ready ## the images in a Docker engine, installed and started where this may be done
	@tests/tools/containers.sh

images: .venv/ready ## the modules' images for amd64, and their bills of materials in build/images/ (BASE=)
	@docker compose build inference camera_sim dashboard
	@for module in inference camera_sim dashboard; do $(PY) -m tests.tools.sbom $$module:$$(cat VERSION)-amd64 build/images/$$module.cdx.json; done

pin-base: .venv/ready ## write the digest of the base image, as its registry has it now, into every Dockerfile
	@$(PY) -m tests.tools.pin_base

unit: .venv/ready ## the unit tests only
	@$(PYTEST) -q -m 'not long' tests/unit

e2e: .venv/ready ## the end-to-end tests only: real processes, real TLS, the real SDKs
	@$(PYTEST) -q -m 'not long' tests/e2e

clients: .venv/ready ## the clients of others against the simulator; build/clients.json
	@$(PYTEST) -q -m client --clients=build/clients.json tests

conformance: .venv/ready ## every statement of the protocol reference against the simulator; build/conformance.json
	@$(PYTEST) -q --conformance=build/conformance.json tests/conformance

check: .venv/ready ## ruff and mypy
	@$(PY) -m ruff format --check --quiet . || { echo "cure: .venv/bin/python -m ruff format ." >&2; exit 1; }
	@$(PY) -m ruff check --quiet .
	@$(PY) -m mypy --no-error-summary

coverage: .venv/ready ## branch coverage of the packages without I/O by their unit tests; fails below the limit
	@$(PY) -m coverage run -m pytest -q -m 'not long' $(addprefix tests/unit/,edgekit/frame camera_sim dashboard inference twinship/simulator)
	@$(PY) -m coverage report

lock: .venv/ready ## renew the lock files after a change of pyproject.toml (UPGRADE=1: the newest versions)
	@$(LOCK) --extra train --extra video --group dev pyproject.toml -o requirements.lock
	@$(LOCK) -c requirements.lock --group build -o modules/build.lock
	@$(LOCK) --group debug -o modules/debug.lock
	@$(LOCK) -c requirements.lock pyproject.toml -o twinship/requirements.lock
	@$(LOCK) -c requirements.lock --extra train pyproject.toml -o training/requirements.lock
	@$(LOCK) -c requirements.lock modules/camera_sim/pyproject.toml -o modules/camera_sim/requirements.lock
	@$(LOCK) -c requirements.lock --extra video modules/camera_sim/pyproject.toml -o modules/camera_sim/video.lock
	@$(LOCK) -c requirements.lock modules/dashboard/pyproject.toml -o modules/dashboard/requirements.lock
	@$(LOCK) -c requirements.lock modules/inference/pyproject.toml -o modules/inference/requirements.lock

wheels: .venv/ready ## the wheels of all six distributions, in dist/
	@rm -rf dist
	@$(PIP) wheel $(OURS) --wheel-dir dist $(PROJECTS:%=./%) .

clean: ## remove build/, dist/ and caches; keeps .venv, .env and your signing keys
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@echo "Removed build/, dist/ and the caches. Kept: .venv, .env and your signing keys."
