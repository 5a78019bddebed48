# Two commands do all the set-up on a machine with Python 3.11 and pip: `make demo`, `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= demo-output
IMAGES ?=
JOBS   ?= 10000
MINUTES ?= 120
AUDIT  ?= .venv-audit
SERVICE ?= pypi

.PHONY: help demo test check docs bench soak audit clean

help:
	@echo "make demo    run the main job end to end, then open $(OUT)/index.html"
	@echo "             IMAGES=folder edits your own photographs, OUT=folder writes elsewhere"
	@echo "make test    every test, on real servers that the tests start themselves"
	@echo "make check   linters, types, import rules"
	@echo "make docs    the documentation as a site, in build/site"
	@echo "make bench   the figures of bench/RESULTS.md"
	@echo "make soak    10,000 jobs under all faults together; JOBS, MINUTES change that"
	@echo "make audit   known vulnerabilities of what is pinned, and a bill of materials (CycloneDX)"
	@echo "make clean   remove the environment and the demo's output"

demo: $(VENV)/.demo
	@exec env EDICT_DIE_WITH_PARENT=1 $(BIN)/edict demo --out "$(OUT)" $(if $(IMAGES),--images "$(IMAGES)")

# Fast tests first: what is broken shows early. They wait for servers half of the time, so more of them
# run at once than a small machine has cores.
test: $(VENV)/.dev
	@$(BIN)/python -m tests.browser.browsers
	@$(BIN)/python -m tests.deploy.helm
	$(BIN)/python -m pytest -m "not slow" -n 4
	$(BIN)/python -m pytest -m slow -n 4 --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open build/site/index.html"

bench: $(VENV)/.dev
	$(BIN)/python -m bench.engine
	$(BIN)/python -m bench.pipeline

soak: $(VENV)/.dev
	$(BIN)/python -m tests.faults.soak --jobs $(JOBS) --minutes $(MINUTES)

# Tools with many dependencies of their own: not in the environment that they look at.
audit: $(VENV)/.dev $(AUDIT)/.done
	$(AUDIT)/bin/python tools/audit.py --python $(BIN)/python --service $(SERVICE)

clean:
	rm -rf $(VENV) $(AUDIT) sbom.cdx.json $(OUT) build dist *.egg-info

# `--without-pip` and the outer pip: Debian's Python has no ensurepip unless python3-venv is there.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found " + sys.version)'
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(PYTHON) -m pip --python $(BIN)/python install -q -c constraints.txt pip setuptools -e '.[worker,embedded]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PYTHON) -m pip --python $(BIN)/python install -q -c constraints.txt pip setuptools -e '.[worker,embedded,dev]'
	@touch $@ $(VENV)/.demo

$(AUDIT)/.done: tools/audit.txt constraints.txt
	$(PYTHON) -m venv --without-pip $(AUDIT)
	$(PYTHON) -m pip --python $(AUDIT)/bin/python install -q -c constraints.txt -r tools/audit.txt
	@touch $@
