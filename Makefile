# Everything runs in a virtual environment of its own: .venv, made by the first target that needs it.
PYTHON ?= python3
VENV   ?= .venv
PARTS  ?= 40

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check install
BASE := $(VENV)/.installed-base
DEV  := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help demo test check bench soak chaos demo-bundle schemas freeze protobuf clean mosquitto chromium compiler tensorrt nspawn

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=$(PYTHON) (3.10 to 3.12), VENV=$(VENV), PARTS=$(PARTS) (of the demo), PYTEST_ARGS for pytest"

demo: $(if $(wildcard $(DEV)),$(DEV),$(BASE)) ## see it work: camera, broker and daemon on this computer (no torch)
	$(BIN)/edge-demo --parts $(PARTS)

test: $(DEV) mosquitto chromium tensorrt nspawn ## run all tests, with a real broker, browser, TensorRT and systemd (installs torch)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(DEV) ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/shellcheck systemd/install.sh docs/examples/mosquitto/make-certificates.sh
	$(BIN)/mypy

bench: $(DEV) ## measure the model, the runner, an inspection's steps, the daemon and its memory (docs/performance.md)
	$(BIN)/python -m tests.benchmarks

soak: $(DEV) mosquitto ## inspect 20,000 times, and see whether anything grows (docs/endurance.md)
	$(BIN)/python -m tests.endurance.soak --out docs/images/soak.svg

chaos: $(DEV) mosquitto ## 30 kills, 10 of the broker, 20 cuts, a full disk: is each verdict there once (docs/endurance.md)
	$(BIN)/python -m tests.endurance.chaos

demo-bundle: $(DEV) ## train and export the bundle of the demo anew; RUN=folder keeps the run
	SOURCE_DATE_EPOCH=1767225600 $(BIN)/python -m export.demo_bundle $(if $(RUN),--run $(RUN))

schemas: $(DEV) ## write docs/schemas and the tables of docs/mqtt.md from the messages
	$(BIN)/python -m edge.schemas docs/schemas

freeze: $(DEV) ## promise the messages as they are now (edge/frozen_schemas); refuses what breaks a promise
	$(BIN)/python -m edge.schemas --freeze

protobuf: $(DEV) ## what protoc makes of edge/sparkplug/sparkplug_b.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. edge/sparkplug/sparkplug_b.proto

clean: ## remove .venv, builds and caches; runs, bundles and demo-output stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find edge train export tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The device's install, from a copy; torch stays away. What was built before would be copied along.
$(BASE): pyproject.toml $(shell find edge -type f -not -name '*.pyc') | $(BIN)/python
	rm -rf build
	$(PIP) .
	@touch $@

# All of it, in place: an edit needs no new install.
$(DEV): pyproject.toml | $(BIN)/python
	$(PIP) -e '.[dev]'
	@rm -f $(BASE)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { \
	  echo "$(PYTHON) is not Python 3.10, 3.11 or 3.12; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv with pip; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# $(call from_debian,commands,packages): installs the packages where a command is missing. Tests that need a
# missing one are skipped, but never in CI.
define from_debian
@PATH="$$PATH:/usr/sbin:/usr/local/sbin"; missing=; \
for one in $(1); do command -v $$one >/dev/null || missing="$$missing $$one"; done; \
if [ -z "$$missing" ]; then exit 0; fi; \
if ! command -v apt-get >/dev/null; then as=none; \
elif [ "$$(id -u)" = 0 ]; then as=; \
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then as=sudo; \
else as=none; fi; \
if [ "$$as" != none ]; then \
  $$as apt-get -q update && \
  $$as env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $(2); \
elif [ -n "$$CI" ]; then echo "$$missing: not installed, and can't be from here"; exit 1; \
else echo "$$missing: not installed; the tests that need it will be skipped"; fi
endef

mosquitto:
	$(call from_debian,mosquitto mosquitto_sub,mosquitto mosquitto-clients)

chromium:
	$(call from_debian,chromium,chromium)

compiler:
	$(call from_debian,g++,g++)

# TensorRT's Python modules and a pycuda for the tests that need no GPU; what is there already is left alone.
tensorrt: $(DEV) compiler
	$(BIN)/python -m tests.tensorrt_real.install

# A small Debian that the service is booted in, 230 MB in the user's cache; made once, by root alone.
nspawn: $(DEV)
	$(call from_debian,systemd-nspawn debootstrap systemd-analyze,systemd-container debootstrap)
	$(BIN)/python -m tests.systemd.image
