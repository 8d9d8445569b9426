# hedgeflow: `make demo` shows it, `make test` checks it. Needs Python 3.11+ and make, nothing else.
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO ?=
BOOTSTRAP ?=
DELETE_TOPICS ?=
# Some machines set it; tests and demo start many processes, which then compile the same files again and again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test soak kernels check format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch first: by itself from TORCH_INDEX where that is given, and never another version than the constraints name.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	$(PIP) install -q -c constraints.txt -e '.[broker]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt -e '.[broker,dev]'
	@touch $@

install: $(VENV)/.installed ## make .venv and install hedgeflow into it

install-dev: $(VENV)/.installed-dev ## the same, with what tests and checks need

demo: install ## run the whole way once (DEMO='--minutes 10 --seed 2' passes options on)
	$(BIN)/hedgeflow demo $(DEMO)

check: install-dev ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Every process of the tests would compile them anew in a new checkout.
kernels: install-dev
	$(BIN)/python tests/fixtures/compile_kernels.py

ifeq ($(BOOTSTRAP),)
test: install-dev ## check, then all tests; BOOTSTRAP=host:port runs the integration tests on your Kafka
	$(MAKE) --no-print-directory -j2 check kernels
	$(BIN)/pytest -n 3 --dist loadgroup
else
# One after another: they share your broker, and each deletes hedgeflow's topics there, which wants DELETE_TOPICS=yes.
test: install-dev
	HEDGEFLOW_TEST_BOOTSTRAP=$(BOOTSTRAP) HEDGEFLOW_TEST_MAY_DELETE_TOPICS=$(DELETE_TOPICS) $(BIN)/pytest tests/integration
endif

soak: install-dev ## the tests that take minutes, then 100 kills under load
	$(BIN)/pytest -m soak
	$(BIN)/python -m benchmarks.soak --kills 100 --every 4 --speed 4

format: install-dev ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv and what the demo made
	rm -rf $(VENV) hedgeflow-demo build *.egg-info
