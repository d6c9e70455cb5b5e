# Needs make and any Python from 3.11 on; everything else is installed into .venv.
.DEFAULT_GOAL := help
.PHONY: help run test check conformance catalogue e2e fuzz sim timings transfers bench docs clean
PYTHONS := python3.13 python3.12 python3.11 python3 python
ifeq ($(OS),Windows_NT)
  BIN := .venv/Scripts
else
  BIN := .venv/bin
endif
PY := $(BIN)/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
SEEDS ?= 200
TRANSFERS ?= 3000
KILLS ?= 100
FUZZ_REQUESTS ?= 20000
TIMINGS ?= 100000

help: ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: .venv/.product ## set everything up and run the sample app on 127.0.0.1:7071
	@$(PY) -m perdure start --app samples/quickstart

test: .venv/.tools ## run all tests
	@$(PY) -m pytest -q

check: .venv/.tools ## formatting, lint, types, layers
	@$(PY) -m ruff format --check . && $(PY) -m ruff check . && $(PY) -m pyright && $(PY) -m pytest -q tests/unit/test_layers.py

conformance: .venv/.tools ## hold a store against the contract of the seam: STORE=url
	@$(PY) -m pytest -q tests/conformance $(if $(STORE),--store "$(STORE)")

catalogue: .venv/.tools ## what an engine has to do, case by case; CASE_SEED=n shuffles
	@$(PY) -m pytest -q tests/catalogue

e2e: .venv/.tools ## tests that start real hosts
	@$(PY) -m pytest -q tests/e2e

fuzz: .venv/.tools ## requests that nobody would think of, at a real host: FUZZ_REQUESTS=n FUZZ_SEED=n
	@FUZZ_REQUESTS=$(FUZZ_REQUESTS) $(PY) -m pytest -q -s tests/e2e/test_fuzz.py

sim: .venv/.tools ## simulate hosts, crashes and time: SEEDS=n
	@$(PY) tests/fault/simulate.py --seeds $(SEEDS) --jobs 2

timings: .venv/.tools ## whether the time of a refusal tells something about a secret: TIMINGS=n for each side
	@TIMINGS=$(TIMINGS) $(PY) -m pytest -q -s tests/unit/test_host_keys.py -k how_long_a_refusal

transfers: .venv/.tools ## move money under locks while the host is killed again and again: TRANSFERS=n KILLS=n
	@TRANSFERS=$(TRANSFERS) KILLS=$(KILLS) $(PY) -m pytest -q -s tests/fault/test_kill_entities.py

bench: .venv/.tools ## measure every workload; one JSON line each
	@$(PY) bench/run.py --workload all

docs: .venv/.tools ## write the generated reference pages
	@$(PY) docs/generate.py && $(PY) docs/generate_conformance.py

clean: ## remove the virtual environment and caches
	@rm -rf .venv .pytest_cache .ruff_cache .hypothesis

.venv/.product: pyproject.toml | .venv
	@echo "installing perdure into .venv ..." && $(PIP) -e . && touch $@

.venv/.tools: pyproject.toml | .venv
	@echo "installing perdure and its development tools into .venv ..." && $(PIP) -e ".[dev]" && touch $@ .venv/.product

.venv:
	@for each in $(PYTHON) $(PYTHONS); do \
	   version=$$("$$each" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue; \
	   if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	     echo "making .venv with Python $$version ..."; "$$each" -m venv .venv || rm -rf .venv; test -d .venv; exit; \
	   fi; \
	   found="$${found:-$$version}"; \
	 done; \
	 echo "perdure needs Python 3.11 or later, but found $${found:+only }$${found:-none}: install one, or name it with PYTHON=path." >&2; exit 1
