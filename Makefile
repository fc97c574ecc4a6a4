# make demo   the main job: control plane, three hosts, real tunnels, a cut link, a live marble timeline
# make test   everything that CI runs; ends with a table of where the time went and what was NOT PROVEN
#
# Both install what they need themselves: Debian packages (as root, if something is missing) and a virtual environment
# in .venv. The variables RXNET_NB_SERVER, RXNET_NB_CLIENT and WIREGUARD_GO name programs for the tests that want them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test lint proto docs bench clean

demo: $(VENV)/ready
	@$(BIN)/rxnet demo $(ARGS)

test: $(VENV)/ready-dev
	@$(BIN)/python tests/run.py $(ARGS)

lint: $(VENV)/ready-dev
	@$(BIN)/python tests/run.py --only lint

proto: $(VENV)/ready-dev
	@$(BIN)/python proto/generate.py

docs: $(VENV)/ready-dev
	@$(BIN)/python -m rxnet.testing.gallery tests/engine docs/marbles.md

bench: $(VENV)/ready-dev
	@$(BIN)/python benchmarks/run.py $(ARGS)

$(VENV)/bin/python:
	@sh .ci/system-packages
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/ready: $(VENV)/bin/python setup.cfg pyproject.toml
	@sh .ci/system-packages
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
