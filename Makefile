# facelight: `make run` serves, `make test` proves. Both need Python >= 3.11 and nothing else.
SHELL := /bin/sh
PYTHON ?= python3
GOLDEN ?= ../shared/golden
HOST ?= 127.0.0.1
PORT ?= 8000
MINUTES ?= 30
export FACELIGHT_HOST ?= $(HOST)
export FACELIGHT_PORT ?= $(PORT)
# Idle OpenMP threads sleep instead of spinning: a server under test and the tests share the processors.
export OMP_WAIT_POLICY ?= passive
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: help setup run test check parity faults soak bench rehearsal engine-test docs screenshots demo lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

setup: $(STAMP) ## install everything from the lock into .venv

# --no-deps: the lock is complete, and it replaces insightface's GUI build of OpenCV by the headless one.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "facelight needs Python 3.11 or newer; set PYTHON=")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

run: setup ## serve both endpoints on HOST:PORT (default 127.0.0.1:8000)
	@exec $(VENV)/bin/facelight serve

test: setup ## run the test suite
	@$(PY) -m pytest $(ARGS)

check: setup ## lint and type-check
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	@if command -v luacheck >/dev/null; then luacheck --quiet workers/state/lua; else echo 'luacheck is not installed: Lua not checked'; fi

demo: setup ## against a running server: sample pictures and a contact sheet into out/
	@$(VENV)/bin/facelight demo

parity: setup ## compare with the golden vectors of the original implementations
	$(PY) -m tests.parity $(GOLDEN)

faults: setup ## kill, starve and cut off a whole server; writes docs/faults.md, 45 minutes (ARGS='--only F1')
	$(PY) -m tests.faults $(ARGS)

soak: setup ## steady load for MINUTES (default 30) while workers die; writes docs/faults.md
	$(PY) -m tests.faults.soak --minutes $(MINUTES)

bench: setup ## count the work and time the serving; results into bench/results (on an idle machine, 20 minutes)
	$(PY) bench/cpu.py
	$(PY) bench/serving.py

rehearsal: setup ## install and serve weight files of the published sizes with random values; 31 GB of disk (ARGS='--reduced')
	$(PY) -m bench.rehearsal $(ARGS)

engine-test: setup ## build and run the composition on a container engine; 15 minutes with cached layers, 12 GB
	$(PY) -m tests.engine $(ARGS)

docs: setup ## write the tables of the documentation anew
	$(PY) -m docs.tables

screenshots: setup ## take the README's picture of the page anew (needs Chromium, two minutes)
	$(PY) -m docs.screenshots

# The images' locks are parts of the whole one, in the same versions; setuptools installs the project itself.
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
  --no-emit-package opencv-python --custom-compile-command "make lock" --quiet
IMAGE := echo 'setuptools>=77' | $(COMPILE) pyproject.toml - --constraint requirements.lock

lock: ## write the lock files anew from pyproject.toml (needs uv)
	$(COMPILE) pyproject.toml --all-extras --output-file requirements.lock
	$(IMAGE) --extra otel --output-file deploy/gateway.lock
	$(IMAGE) --extra otel --extra worker --output-file deploy/worker.lock

clean: ## remove everything the project wrote
	rm -rf $(VENV) var out
