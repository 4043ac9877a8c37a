# make install | demo | test | lint | docs | faults | soak | mutations
# | audit | lock; all but the first install by themselves.
# Needs Python 3.10 or newer (3.11 is what the lock was tested with).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What is imported is compiled then: half of the time, and of the files, less.
INSTALL := $(PIP) install --no-compile --no-deps
TOOLS := $(VENV)/tools
TORCH = $(shell sed -n 's/^\# torch/torch/p' requirements.lock)
CODE := seg_kd configs tools benchmarks tests docs/_site

.PHONY: install demo test faults soak mutations lint docs audit lock clean
.DELETE_ON_ERROR:

install: $(READY)

# The stamp is written last: a set-up that was cut off starts again.
$(READY): requirements.lock setup.cfg pyproject.toml
	@rm -f $@
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
		"Python 3.10 or newer is needed: make PYTHON=/path/to/python")'
	@echo 'Setting up $(VENV): PyTorch first, the large one, then the rest.'
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) $(TORCH)
	@$(INSTALL) -qq --require-hashes --requirement requirements.lock
	@$(PIP) install -qq $(TORCH)
	@$(INSTALL) -qq --no-build-isolation --editable .
	@$(BIN)/python -c 'import albumentations, seg_kd'
	@touch $@
	@echo 'Ready. Next: make demo, or make test.'

demo: $(READY)
	@$(BIN)/seg-kd demo

# make test COVERAGE=1 says which lines of seg_kd they reach, and takes longer.
test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto \
		$(if $(COVERAGE),--cov --cov-report term)

# So many kills of small trainings: each is resumed and compared.
FAULTS ?= 120

faults: $(READY)
	@FAULTS=$(FAULTS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s \
		--no-header -n 0 tests/faults

# So many iterations of a small training: nothing may grow. About 40 minutes.
SOAK ?= 20000

soak: $(READY)
	@SOAK=$(SOAK) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s \
		--no-header -n 0 tests/test_long_runs.py

# Breaks a copy of the code in many ways: the tests must notice.
# MUTATIONS='--only losses.txt --jobs 2', say.
mutations: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/mutations/run.py $(MUTATIONS)

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

# Tools that the tested set does not need, in an environment of their own.
$(TOOLS)/.ready: Makefile
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip --disable-pip-version-check install -qq \
		uv==0.13.9 pip-audit==2.10.1
	@touch $@

# Known flaws of what the lock names. Asks a service on the network.
audit: $(TOOLS)/.ready
	@$(TOOLS)/bin/pip-audit --strict --disable-pip --progress-spinner off \
		--requirement requirements.lock
	@echo $(TORCH) > $(TOOLS)/torch.txt
	@$(TOOLS)/bin/pip-audit --strict --disable-pip --progress-spinner off \
		--no-deps --requirement $(TOOLS)/torch.txt

# The hashes of all files of the versions in the lock, whatever the machine.
lock: $(TOOLS)/.ready
	@grep '^#' requirements.lock > requirements.lock.part
	@grep -o '^[a-z][^ ]*' requirements.lock > $(TOOLS)/pins.txt
	@$(TOOLS)/bin/uv pip compile --quiet --no-deps --no-header \
		--no-annotate --generate-hashes $(TOOLS)/pins.txt \
		--output-file $(TOOLS)/hashed.txt
	@cat $(TOOLS)/hashed.txt >> requirements.lock.part
	@mv requirements.lock.part requirements.lock

clean:
	rm -rf $(VENV) build site *.egg-info
