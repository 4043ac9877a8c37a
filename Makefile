# make install | demo | test | faults | lint | docs; all but the first install
# by themselves.
# Needs Python 3.10 or newer (3.11 is what the lock was tested with).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
CODE := seg_kd configs tools benchmarks tests docs/_site

.PHONY: install demo test faults lint docs clean
.DELETE_ON_ERROR:

install: $(READY)

# The stamp is written last: a set-up that was cut off starts again.
$(READY): requirements.lock setup.cfg pyproject.toml
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
		"Python 3.10 or newer is needed: make PYTHON=/path/to/python")'
	@echo 'Setting up $(VENV): PyTorch first, the large one, then the rest.'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint requirements.lock torch
	@$(PIP) install -qq --no-deps --requirement requirements.lock
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import albumentations, seg_kd'
	@touch $@
	@echo 'Ready. Next: make demo, or make test.'

demo: $(READY)
	@$(BIN)/seg-kd demo

test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto

# So many kills of small trainings: each is resumed and compared.
FAULTS ?= 120

faults: $(READY)
	@FAULTS=$(FAULTS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s \
		--no-header -n 0 tests/faults

lint: $(READY)
	@$(BIN)/yapf --diff --recursive $(CODE)
	@$(BIN)/isort --check-only --diff --quiet $(CODE)
	@$(BIN)/flake8 $(CODE)
	@$(BIN)/codespell
	@$(BIN)/mypy --no-error-summary

# Warnings are errors: a link, an anchor or a docstring that leads nowhere.
docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo 'The site is in site/. To read it: python3 -m http.server -d site'

clean:
	rm -rf $(VENV) build site *.egg-info
