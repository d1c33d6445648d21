# make demo     run the demo project on http://127.0.0.1:8000/
# make test     run all tests
# make test-lowest  run the main parts on the lowest versions that are declared
# make test-desktop  run what every system with Python can run
# make unit     run the tests that need no socket, process or browser
# make check    format, lint, types, import contracts, settings reference, words
# make words    spelling, and patterns of words to avoid (docs/contributing.md)
# make coverage what each module's own test module covers
# make conformance  run the conformance suites (docs/reference/conformance.md)
# make fuzz     fuzz one target guided by its coverage (ARGS="http2 --seconds 600")
# make ecosystem  try real packages under djserve and under Uvicorn, and tell the table
# make docs     build the documentation as a site, into site/
# make dist     build the distributions into dist/, twice, and check them
# make bench    measure djserve beside other servers (ARGS="--quick", ARGS=--list)
#
# Each target makes the virtual environment it needs; Python 3.11 is all it takes.
# PYTHON selects the interpreter, VENV the environment's directory, ADDR and PORT the
# demo's address, DJANGO a Django requirement ("django~=5.2.0"), ARGS more arguments
# for pytest ("-k websocket -x") or for the coverage (module paths), JOBS the number of
# processes that run the tests (0: this one).

PYTHON ?= python3
VENV ?= .venv
ADDR ?= 127.0.0.1
PORT ?= 8000
DJANGO ?= django
ARGS ?=
JOBS ?= auto
ECOSYSTEM_VENV ?= .venv-ecosystem
LOWEST_VENV ?= .venv-lowest
FUZZ_VENV ?= .venv-fuzz

# Windows has the programs of an environment elsewhere.
bin := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
python := $(bin)/python
# Not quiet: the first time takes minutes.
pip := $(python) -m pip --disable-pip-version-check install --progress-bar on

# By files: the tests of one share its servers.
parallel := $(if $(findstring no:xdist,$(ARGS)),,-n $(JOBS) --dist loadfile --no-loadscope-reorder)

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest lowest-parts test-desktop unit check words coverage conformance fuzz ecosystem bench docs dist clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "djserve needs Python 3.11 or newer: make PYTHON=python3.13 ..."; exit 1; }
	@echo "Making an environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The installs are stamped, so that they run again only when a requirement changes.
$(VENV)/.demo: $(VENV)/.created pyproject.toml requirements/base.txt requirements/demo.txt
	@echo "Installing what the demo needs; the first time this takes some minutes"
	@$(pip) -r requirements/demo.txt '$(DJANGO)'
	@touch $@

$(VENV)/.test: $(VENV)/.demo requirements/test.txt
	@echo "Installing what the tests need; the first time this takes some minutes"
	@$(pip) -r requirements/test.txt '$(DJANGO)'
	@touch $@

$(VENV)/.dev: $(VENV)/.test requirements/dev.txt
	$(pip) -r requirements/dev.txt '$(DJANGO)'
	@touch $@

demo: $(VENV)/.demo
	$(python) manage.py demo_setup
	@$(python) -m demo_project.serve $(ADDR) $(PORT)

test: $(VENV)/.test
	$(python) -X dev -m pytest $(parallel) $(ARGS)

# It makes .venv-lowest, or LOWEST_VENV.
test-lowest:
	$(MAKE) $(LOWEST_VENV)/.lowest VENV=$(LOWEST_VENV)
	$(MAKE) lowest-parts VENV=$(LOWEST_VENV)

# Old releases warn of each other.
lowest-parts:
	$(python) -X dev -m pytest $(parallel) -o filterwarnings=default tests/net \
	    tests/protocols tests/server tests/asgi tests/channels \
	    tests/e2e/test_runasgi.py $(ARGS)

$(VENV)/.lowest: $(VENV)/.created pyproject.toml requirements/test.txt .ci/lowest.py
	$(python) .ci/lowest.py > $(VENV)/lowest.txt
	$(pip) -c $(VENV)/lowest.txt -r requirements/test.txt
	@touch $@

test-desktop: $(VENV)/.test
	$(python) -X dev -m pytest $(parallel) tests/protocols tests/asgi \
	    tests/test_system.py $(ARGS)

# Pytest's own bytecode of the tests is a third of the time. Apart from the sources: what
# servers of other tests use of memory depends on whether they compile.
unit: export PYTHONDONTWRITEBYTECODE=
unit: export PYTHONPYCACHEPREFIX=$(abspath $(VENV))/bytecode
unit: $(VENV)/.test
	JOBS=$(JOBS) $(python) -m tests.unit $(ARGS)

check: $(VENV)/.dev
	$(bin)/ruff format --check
	$(bin)/ruff check
	$(bin)/mypy
	$(bin)/lint-imports --no-logo
	$(python) -m djserve.conf.reference --check
	$(python) -m djserve.instrumentation.reference --check
	$(python) .ci/words.py

words: $(VENV)/.dev
	$(python) .ci/words.py

coverage: $(VENV)/.dev
	$(python) .ci/own_coverage.py $(ARGS)

conformance: $(VENV)/.test
	$(python) -m tests.conformance $(ARGS)

# It makes .venv-fuzz, or FUZZ_VENV, with atheris in it. Without ARGS it tells the targets.
fuzz:
	$(MAKE) $(FUZZ_VENV)/.fuzz VENV=$(FUZZ_VENV)
	$(FUZZ_VENV)/bin/python -m tests.fuzz.guided $(or $(ARGS),--help)

$(VENV)/.fuzz: $(VENV)/.test requirements/fuzz.txt
	$(pip) -r requirements/fuzz.txt '$(DJANGO)'
	@touch $@

# It makes .venv-ecosystem, or ECOSYSTEM_VENV, with the packages in it.
ecosystem:
	$(MAKE) $(ECOSYSTEM_VENV)/.ecosystem VENV=$(ECOSYSTEM_VENV)
	DJSERVE_ECOSYSTEM=1 $(ECOSYSTEM_VENV)/bin/python -m tests.ecosystem $(ARGS)

$(VENV)/.ecosystem: $(VENV)/.test requirements/ecosystem.txt
	$(pip) -r requirements/ecosystem.txt '$(DJANGO)'
	command -v npm >/dev/null && \
	    timeout 120 npm install --silent --no-fund --no-audit --fetch-retries 1 \
	        --prefix $(VENV)/node socket.io-client@4 || \
	    echo 'Without socket.io-client for Node.js: its tests will be skipped'
	@touch $@

# It makes .venv-bench, or BENCH_VENV, with the other servers in it.
bench:
	$(PYTHON) -m benchmarks $(ARGS)

docs: $(VENV)/.docs
	$(VENV)/bin/mkdocs build --strict $(ARGS)

$(VENV)/.docs: $(VENV)/.created requirements/docs.txt
	@$(pip) -r requirements/docs.txt
	@touch $@

dist: $(VENV)/.dist
	$(python) .ci/dist.py $(ARGS)

$(VENV)/.dist: $(VENV)/.created requirements/dist.txt
	@$(pip) -r requirements/dist.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
