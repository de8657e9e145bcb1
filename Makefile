# What people do every day. `make demo` and `make test` need Python 3.11 or
# newer, and nothing else.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) .ci/install.py
# Else every process would compile TensorFlow's modules anew.
unexport PYTHONDONTWRITEBYTECODE
TEST := TF_CPP_MIN_LOG_LEVEL=3 $(RUN) -m pytest
# One process a core; TensorFlow's own threads would fight over them. Each has
# its half of the files, whose tests share what is made for them; whoever is
# done first takes from what the other one has left.
FAST := -m "not slow" -n 2 --dist worksteal
DEMO := runs/demo

# What only another target asks for, such as a trained run, is kept.
.SECONDARY:
.PHONY: help demo test test-slow test-torch benchmark study \
    lint format clean

help:
	@echo "make demo       train all methods on real reviews"
	@echo "make test       lint, then the fast tests"
	@echo "make test-slow  all tests, minutes to hours"
	@echo "make test-torch the fast tests, with the PyTorch reference live"
	@echo "make benchmark  what things cost against PyTorch, in a short version"
	@echo "make study      methods x seeds on two datasets, hours; SST2=folder"
	@echo "make lint       check style and types; make format mends style"
	@echo "make clean      delete the environment and the demo's runs"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.py pyproject.toml | $(VENV)/bin/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(INSTALL) -e ".[test]"
	@touch $@

# With pip: a CPU build, where pip is configured to find one, is taken.
$(VENV)/installed-torch: $(VENV)/installed-test
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[torch]"
	@touch $@

METHODS := baseline freelb carl rar
demo: $(METHODS:%=$(DEMO)/%/robustness.json)
	@$(RUN) -m tools.report $(METHODS:%=$(DEMO)/%) --output_dir=$(DEMO)/report \
	    --overwrite

# results.json is what a run writes last: with it, the run is whole, and a
# second `make demo` takes it as it is.
$(DEMO)/%/results.json: flags/experiments/demo_%.cfg | $(VENV)/installed
	$(RUN) -m tools.train --flagfile=$< --output_dir=$(@D) --overwrite

$(DEMO)/%/robustness.json: $(DEMO)/%/results.json
	$(RUN) -m tools.attack --run_dir=$(@D) --epsilons=0.1,0.2 \
	    --attack_steps=5 --max_examples=128 --hotflip_words=0 --overwrite

test: $(VENV)/installed-test lint
	$(TEST) $(FAST)

test-slow: $(VENV)/installed-test
	$(TEST)

test-torch: $(VENV)/installed-torch
	$(TEST) $(FAST)

# In full, one by one: benchmarks/README.md.
BENCHMARKS := training_step against_pytorch epoch attack tokenizing \
    first_step serving
benchmark: $(VENV)/installed-torch
	@for name in $(BENCHMARKS); do \
	    printf "\n## %s\n\n" $$name; \
	    $(RUN) -m benchmarks.$$name --short || exit 1; \
	done
	@printf "\n## growth\n\n"
	@$(RUN) -m benchmarks.growth --short --output_dir=runs/benchmark

# Goes on where it was cut off. SST2 is a folder with GLUE's train.tsv, dev.tsv.
study: $(VENV)/installed-test
	$(RUN) -m benchmarks.study --jobs=2 $(SST2:%=--sst2=%)

lint: $(VENV)/installed-test
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: $(VENV)/installed-test
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

clean:
	rm -rf $(VENV) $(DEMO)
