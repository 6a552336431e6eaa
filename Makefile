# The two commands of this project are `make demo` and `make test`; each builds what it needs in a fresh clone.
# A variable, so that CI and packagers can keep the environment elsewhere.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PROFILE ?= smoke
JOBS ?= 2

CASES ?= 20000
LOCKED ?= 1
UPGRADE ?=
SITE ?= site
DIST ?= dist

.PHONY: demo test check docs dist mutants reliability fuzz lock audit lowest another env clean

demo: env  ## the ten rows of Table 4 on the built-in benchmark, then the report
	$(BIN)/rasa run table4 --profile $(PROFILE) --jobs $(JOBS)
	$(BIN)/rasa report table4 --profile $(PROFILE)

test: env  ## the whole test suite
	$(BIN)/python -m pytest -n $(JOBS)

check: env  ## what CI checks: format, lint, types, direction of imports, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy rasa experiments studies reports benchmarks website
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(JOBS)

docs: env  ## the site, into site/: reference from the program, the notebook run, every link checked
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --site-dir $(SITE)
	$(BIN)/python -m website.links $(SITE)

dist: env  ## sdist, and from it the wheel, into DIST; their metadata and contents checked
	$(BIN)/python -m pip install --quiet build twine check-wheel-contents
	$(BIN)/python -m build --quiet --outdir $(DIST) .
	$(BIN)/python -m twine check --strict $(DIST)/*
	$(BIN)/check-wheel-contents $(DIST)/*.whl

mutants: env  ## deliberate mistakes in the recipe, each of which must make a test fail; not part of CI
	$(BIN)/python -m tests.mutants $(MUTANTS)

reliability: env  ## the faults of docs/reliability.md by the dozen: kills, servers, locks, processes; tens of minutes
	STUDY_PROCESSES=8 STUDY_TRIALS=50 $(BIN)/python -m pytest -m slow
	STUDY_PROCESSES=8 STUDY_TRIALS=50 $(BIN)/python -m pytest tests/test_study_storage.py

fuzz: env  ## CASES damaged inputs, other ones each time
	FUZZ_CASES=$(CASES) $(BIN)/python -m pytest --timeout 0 tests/test_fuzz.py

lock: env  ## requirements.lock with what setup.cfg needs and it lacks, and the hashes; UPGRADE=--upgrade takes the newest of all
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml setup.cfg --extra dev --extra docs --universal --python-version 3.11 --generate-hashes \
		--no-annotate $(UPGRADE) --custom-compile-command 'make lock' --quiet --output-file requirements.lock

audit: env  ## known vulnerabilities of the locked versions; skipped where no database can be reached
	$(BIN)/python -m pip install --quiet pip-audit
	.ci/audit $(BIN)/pip-audit requirements.lock

lowest: ## one smoke run on the lowest versions that setup.cfg allows, in an environment of its own
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --constraint .ci/lowest.txt --editable .
	$(VENV)-lowest/bin/rasa run table4/m-rtd --profile smoke --workspace $(VENV)-lowest/smoke
	$(VENV)-lowest/bin/rasa report table4 --profile smoke --workspace $(VENV)-lowest/smoke

another: ## one smoke run on another Python, in an environment of its own: make another PYTHON=python3.13
	$(PYTHON) -m venv $(VENV)-another
	$(VENV)-another/bin/python -m pip install --quiet .
	$(VENV)-another/bin/rasa run table4/m-rtd --profile smoke --workspace $(VENV)-another/smoke
	$(VENV)-another/bin/rasa report table4 --profile smoke --workspace $(VENV)-another/smoke

env: $(BIN)/.built

# The versions of requirements.lock, each file checked against its hash. An index that lacks one of them (a mirror, an
# older Python) gives the newest in the ranges of setup.cfg instead, and says so; a file whose hash differs ends it.
# With LOCKED=: the ranges at once. torch and torchvision must come from the same index (a CPU-only torch beside the
# index's torchvision fails at `import timm`).
$(BIN)/.built: setup.cfg pyproject.toml requirements.lock .ci/environment
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	.ci/environment $(BIN)/python $(LOCKED)
	touch $@

clean:  ## the environment, caches and build products; not runs, data or the tracking store
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
