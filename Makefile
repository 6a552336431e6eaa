# The two commands of this project are `make demo` and `make test`; each builds what it needs in a fresh clone.
# A variable, so that CI and packagers can keep the environment elsewhere.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PROFILE ?= smoke
JOBS ?= 2

.PHONY: demo test check mutants env clean

demo: env  ## the ten rows of Table 4 on the built-in benchmark, then the report
	$(BIN)/rasa run table4 --profile $(PROFILE) --jobs $(JOBS)
	$(BIN)/rasa report table4 --profile $(PROFILE)

test: env  ## the whole test suite
	$(BIN)/python -m pytest

check: env  ## what CI checks: format, lint, types, direction of imports, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy rasa experiments studies reports benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

mutants: env  ## deliberate mistakes in the recipe, each of which must make a test fail; not part of CI
	$(BIN)/python -m tests.mutants $(MUTANTS)

env: $(BIN)/.built

# Plain installs: torch and torchvision must come from the same index (a CPU-only torch beside the index's
# torchvision fails at `import timm`).
$(BIN)/.built: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:  ## the environment, caches and build products; not runs, data or the tracking store
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
