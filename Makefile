# Needs Python >= 3.11, make and git; everything else is installed into .venv from constraints.txt.
.DEFAULT_GOAL := help
.PHONY: help setup test lint reproduce-table1 architectures architectures-3d sweep ui bench docs clean

DATA ?= phantom
PRESET ?= quick
SEEDS ?=
COMMA := ,
SWEEP_SEEDS = $(if $(SEEDS),$(SEEDS),1$(COMMA)2)
TESTS ?= tests
ARGS ?=

# The first interpreter that is new enough, not too new, and able to make an environment.
SUITABLE := import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	if $$name -c '$(SUITABLE)' >/dev/null 2>&1; then echo $$name; break; fi; done)

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

help: ## print these targets
	@echo "usage: make TARGET [DATA=phantom|ddti|...] [PRESET=quick|full] [SEEDS=0,1,2] [PYTHON=python3.12]"
	@sed -n 's/^\([a-z0-9-]*\):.*## /  \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

setup: $(INSTALLED) ## make .venv and install the pinned packages (only when pyproject.toml or constraints.txt changed)

$(INSTALLED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c '$(SUITABLE)' 2>/dev/null || { echo "medseg needs Python 3.11, 3.12 or 3.13 with venv; name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV); the first time this takes some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

test: $(INSTALLED) ## run the tests (ARGS=--slow for the long ones too, TESTS=tests/test_cli.py for some)
	$(BIN)/python -m pytest $(TESTS) $(ARGS)

lint: $(INSTALLED) ## style, types, import contracts, notebooks without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	@for notebook in notebooks/*.ipynb; do [ ! -e "$$notebook" ] || $(BIN)/nbstripout --verify "$$notebook"; done

reproduce-table1: $(INSTALLED) ## train, score and tabulate Table 1 into outputs/table1; continues where it stopped
	$(BIN)/medseg study study=table1 data=$(DATA) preset=$(PRESET) $(if $(SEEDS),'seeds=[$(SEEDS)]')

architectures: $(INSTALLED) ## every 2D system, deep and classical, in one table with its cost; continues where it stopped
	$(BIN)/medseg study study=architectures data=$(DATA) preset=$(PRESET) $(if $(SEEDS),'seeds=[$(SEEDS)]')

architectures-3d: $(INSTALLED) ## the same for volumes, on msd_hippocampus below MEDSEG_DATA
	$(BIN)/medseg study study=architectures_3d preset=$(PRESET) $(if $(SEEDS),'seeds=[$(SEEDS)]')

sweep: $(INSTALLED) ## an example of a sweep: three networks, two seeds; then make ui
	$(BIN)/medseg train -m experiment=quick data=$(DATA) net=unet,reagunet,dmunet seed=$(SWEEP_SEEDS)

ui: $(INSTALLED) ## open MLflow on the recorded runs, on this machine only
	$(BIN)/medseg ui

bench: $(INSTALLED) ## measure what benchmarks/ measures
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

docs: $(INSTALLED) ## the table of systems in the README; the pages of docs/ with a preview of every dataset that is here
	$(BIN)/python docs/systems.py
	$(BIN)/python docs/build.py

clean: ## remove .venv, caches and build leftovers; data/ and outputs/ stay
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
