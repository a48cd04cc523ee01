# make run    the monitor on a sample disk (with piped input: that script)
# make test   all tests          make lint   ruff, mypy          make bench   beside QEMU's tools
#
# Each sets up what it needs, in .venv; that is done again only when pyproject.toml has changed.

PYTHON ?= python3
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.ready-to-run
DEV_READY := $(VENV)/.ready-to-develop
SAMPLE := sample/disk.qcow2

.PHONY: run test lint bench clean

run: $(RUN_READY) $(SAMPLE)
	@$(BIN)/blkmon --drive if=none,id=disk,node-name=top,file=$(SAMPLE),format=qcow2 $(ARGS)

test: $(DEV_READY)
	$(BIN)/pytest -n $(JOBS) $(ARGS)

lint: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV_READY)
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) sample build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Stdout belongs to the monitor's results, from the very first run on.
$(RUN_READY): pyproject.toml
	@$(PYTHON) -m venv $(VENV) >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable . >&2
	@$(BIN)/python -m compileall -q monitor  # once, whatever PYTHONDONTWRITEBYTECODE says
	@touch $@

$(DEV_READY): pyproject.toml
	@$(PYTHON) -m venv $(VENV) >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev]' >&2
	@$(BIN)/python -m compileall -q monitor
	@touch $@ $(RUN_READY)

# An overlay on a base with data, made by the monitor itself, whole or not at all.
$(SAMPLE): | $(RUN_READY)
	@rm -rf sample sample.new && mkdir sample.new
	@cd sample.new && ../$(BIN)/blkmon ../docs/sample.blkmon >/dev/null
	@mv sample.new sample
