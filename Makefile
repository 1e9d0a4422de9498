# Needs make and one of Python 3.11, 3.12, 3.13. Uses uv when it is there, venv and pip when not.
#   PYTHON=/path/to/python3.12   which interpreter builds the environment
#   ARGS='…'                     handed to the program behind the target

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
COVERAGE ?= yes
UV := $(or $(shell command -v uv 2>/dev/null),$(wildcard $(BIN)/uv))
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
TYPED := agentdur $(wildcard examples)
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
# Measuring costs half as much again; the other tests reach little of the engine that these do not.
MEASURED := tests/core tests/sdk tests/runtime tests/stores tests/wire tests/remote tests/telemetry
TYPESCRIPT := 7.0.2
TYPESCRIPT_IN := $(VENV)/typescript-$(TYPESCRIPT)
TSC := $(TYPESCRIPT_IN)/node_modules/.bin/tsc

# litellm must not fetch its price list, and openai-agents must not export traces, while tests run.
export LITELLM_LOCAL_MODEL_COST_MAP := True
export OPENAI_AGENTS_DISABLE_TRACING := 1
# Tests and the demo start many processes; without compiled files each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

# uv reads the overrides in pyproject.toml; pip has none and settles for older releases of some frameworks.
# `--group` needs pip 25.1, newer than what Python 3.11 brings along.
ifneq ($(UV),)
create_venv = $(UV) venv --quiet --allow-existing --python "$$found" $(VENV)
install = $(UV) pip install --quiet --python $(BIN)/python $(1)
else
create_venv = "$$found" -m venv $(VENV)
install = { $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip; } && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1' && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(1)
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test check format lint types webtypes layers fast bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/.installed-dev  ## build the environment with everything the tests need

demo: $(VENV)/.installed-demo  ## run the demo: agents that survive a crash
	@$(BIN)/python -m examples.agents.demo $(ARGS)

test: install  ## the whole suite, with the branch coverage of the engine; ARGS: just that, unmeasured
ifeq ($(COVERAGE)$(strip $(ARGS)),yes)
	@rm -f .coverage .coverage.*
	@status=0; \
	$(PYTEST) --cov --cov-report= $(MEASURED) || status=1; \
	for package in sdk runtime core; do \
		floor=0; [ $$package = core ] && floor=95; \
		echo "== branch coverage of agentdur/$$package, floor $$floor %"; \
		$(BIN)/python -m coverage report --include="agentdur/$$package/*" --fail-under=$$floor || status=1; \
	done; \
	$(PYTEST) $(MEASURED:%=--ignore=%) || status=1; \
	exit $$status
else
	$(PYTEST) $(ARGS)
endif

check: install lint types layers fast  ## before each commit: format, lint, types, layers, fast tests

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install webtypes
	$(BIN)/mypy $(TYPED)

webtypes:  ## the web UI's scripts by their JSDoc types; TypeScript is fetched once, where node and npm are
	@if ! command -v node >/dev/null || ! command -v npm >/dev/null; then \
		echo "The web UI's scripts are not checked: there is no node with npm."; \
	elif [ ! -x $(TSC) ] && ! npm install --silent --no-audit --no-fund --no-save --ignore-scripts \
		--fetch-retries=0 --prefix $(TYPESCRIPT_IN) typescript@$(TYPESCRIPT); then \
		echo "The web UI's scripts are not checked: TypeScript $(TYPESCRIPT) could not be fetched."; \
	else \
		$(TSC) -p agentdur/ui/jsconfig.json; \
	fi

layers: install
	$(BIN)/lint-imports --no-logo

fast: install
	$(PYTEST) -q -m "not slow" $(ARGS)

format: install  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install  ## the benchmarks, side by side with the limit they are held against
	benchmarks/run.sh $(ARGS)

clean:  ## remove caches and reports; the environment stays
	rm -rf build dist htmlcov .coverage .coverage.* coverage.xml
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .grimp_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The stamps are older than pyproject.toml exactly when the environment may be.
$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing agentdur and what its tests need into $(VENV) (once) ..."
	@$(call install,-e '.[all]' --group dev)
	@touch $(VENV)/.installed-demo $@

$(VENV)/.installed-demo: pyproject.toml | $(BIN)/python
	@echo "Installing agentdur into $(VENV) (once) ..."
	@$(call install,-e '.[litellm]')
	@touch $@

$(BIN)/python:
	@found=; seen=; for candidate in $(CANDIDATES); do \
		version=$$("$$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue; \
		if "$$candidate" -c '$(IN_RANGE)'; then found=$$(command -v "$$candidate"); break; fi; \
		seen="$$seen $$candidate is $$version;"; \
	done; \
	if [ -z "$$found" ]; then \
		echo "agentdur needs Python 3.11, 3.12 or 3.13, and found:$${seen:- no Python at all;}" >&2; \
		echo "Install one of these, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; \
	fi; \
	$(create_venv)
