# Only Python 3.11 or newer and make are needed; everything else goes to .venv.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE := 1
# Prefect sends nothing to its makers, unless you want it to.
export DO_NOT_TRACK ?= 1
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false

.PHONY: help install install-dev demo server setup deploy unit test test-all bench bench-start bench-fleet bench-workers bench-restore bench-prefect torture torture-faults torture-all-else soak pictures check format lock clean

help:  ## what can be made here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: .venv/installed .venv/bin/digitalocean-backups  ## .venv with the pinned run-time dependencies and the command

install-dev: .venv/installed-dev .venv/bin/digitalocean-backups  ## the same, and what the tests and checks need

demo: install  ## copying and rebuilding against a sandbox of the API, with a Prefect server of its own
	@$(BIN)/python -m deployments.demo

server: install  ## Prefect's server, on PostgreSQL where that is installed; Ctrl-C ends both
	@$(BIN)/python -m deployments.server

setup: install  ## what the deployments need, on the Prefect server at PREFECT_API_URL
	@$(BIN)/python -m deployments.setup

deploy: install  ## every deployment, on the same server; after every change of the code
	@$(BIN)/python -m deployments.setup --check
	@$(BIN)/prefect --no-prompt deploy --all

unit: install-dev  ## the tests that need no Prefect server (a minute)
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal tests/tasks tests/flows tests/deployments tests/test_virtual_time.py

# Dozens of processes import the same modules.
test: export PYTHONDONTWRITEBYTECODE =
# A module's tests share servers, so they stay together. Five at once, as they often wait, in the order of
# tests/conftest.py: the longest modules first.
test: install-dev  ## the tests that have to pass before a change lands (eight minutes)
	$(BIN)/python -m pytest --numprocesses 5 --dist loadfile --no-loadscope-reorder

test-all: export PYTHONDONTWRITEBYTECODE =
test-all: install-dev  ## these and more, with more examples for each property (a third of an hour)
	$(BIN)/python -m pytest --thorough --numprocesses 5 --dist loadfile --no-loadscope-reorder

bench: install-dev  ## what a run costs, measured against the sandbox (twenty minutes)
	$(BIN)/python -m tests.benchmarks

bench-start: install-dev  ## how long a command takes to its first request, with a temporary server (two minutes)
	$(BIN)/python -m tests.benchmarks --start

bench-fleet: install-dev  ## the same with 1,000 Droplets (half an hour)
	$(BIN)/python -m tests.benchmarks --fleet

bench-workers: install-dev  ## the same with three processes on one token (a quarter of an hour)
	$(BIN)/python -m tests.benchmarks --workers

bench-restore: install-dev  ## how fast 1, 10 and 100 Droplets are rebuilt (four minutes)
	$(BIN)/python -m tests.benchmarks --restore

bench-prefect: install-dev  ## what a worker and its runs send to Prefect's server (twenty minutes)
	$(BIN)/python -m tests.benchmarks --prefect

torture: install-dev  ## faults of every kind and kills at every point of a run, and tests/RELIABILITY.md
	@$(MAKE) --no-print-directory --jobs 2 torture-faults torture-all-else

# Two at once, as both mostly wait.
torture-faults:
	$(BIN)/python -m pytest --torture tests/torture/test_fault_matrix.py

torture-all-else:
	$(BIN)/python -m pytest --torture tests/torture --deselect tests/torture/test_fault_matrix.py

soak: install-dev  ## long runs in real time, restarts, kills and reboots, and tests/RELIABILITY.md (three quarters of an hour)
	@$(BIN)/python -m tests.soak

pictures: install-dev  ## the README's pictures of Prefect's UI, with Chromium
	$(BIN)/python -m tests.browser.pictures

check: install-dev  ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install-dev  ## fix formatting and what the linter can fix automatically
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --upgrade --universal \
	--python-version 3.11 --generate-hashes pyproject.toml

lock: install-dev  ## pin the newest dependencies that pyproject.toml allows
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --group dev --constraint requirements.txt --output-file requirements-dev.txt

clean:  ## remove what the other targets made
	rm -rf .venv .demo .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find flows tasks deployments tests -name __pycache__ -prune -exec rm -r {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

# Instead of `pip install --editable`, which would download a build backend that nothing here pins. To the shell, line 2
# starts Python with this file; to Python, it is a string. The path may be too long, or have spaces, for a `#!`.
define LAUNCHER
#!/bin/sh
"exec" "$(CURDIR)/.venv/bin/python" "$$0" "$$@"
import sys

sys.path[0] = "$(CURDIR)"
from deployments.cli import main

sys.exit(main())
endef

.venv/bin/digitalocean-backups: export TEXT = $(LAUNCHER)
.venv/bin/digitalocean-backups: Makefile | .venv/bin/python
	@printf '%s\n' "$$TEXT" > $@
	@chmod +x $@

.venv/installed: requirements.txt | .venv/bin/python
	@echo "Installing the pinned dependencies into .venv (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt | .venv/bin/python
	@echo "Installing the pinned development dependencies into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.txt
	@touch $@ .venv/installed
