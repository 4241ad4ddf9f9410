# make demo | make test | make quality. Nothing has to be prepared: each target installs what is missing.
VENV ?= .venv
export VENV
# Passed on to the program a target runs: make test ARGS='tests/quant -x'.
ARGS ?=
PY = "$(VENV)/bin/python"
# Workers of the fast suite; the native libraries get one thread each, two workers fill two cores.
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install lock quality format test test-slow demo bench reference wheel clean

help:
	@echo "make install     virtual environment $(VENV) with the locked packages"
	@echo "make demo        the bundled classifier and recognizer: prune, finetune, quantize, export-nb, check"
	@echo "make test        fast tests           make test-slow   the rest"
	@echo "make quality     ruff and mypy        make format      let ruff rewrite"
	@echo "make wheel       dist/*.whl           make lock        resolve the lock again"
	@echo "make bench       all ratios against peers (half an hour and more); make bench ARGS=--quick"
	@echo "make reference   docs/REFERENCE.md from the command line and the configuration"

install:
	@bash scripts/install.sh

lock:
	@bash scripts/lock.sh $(ARGS)

quality: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

test: install
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -m "not slow" -n $(JOBS) --dist loadfile $(ARGS)

test-slow: install
	$(PY) -m pytest -q -m slow $(ARGS)

demo: install
	$(PY) -m slim demo $(ARGS)

bench: install
	$(PY) -m benchmarks.peers $(ARGS)

reference: install
	$(PY) -m scripts.reference > docs/REFERENCE.md.new && mv docs/REFERENCE.md.new docs/REFERENCE.md

wheel: install
	PYTHONWARNINGS=ignore $(PY) -m pip wheel -qq --no-build-isolation --no-deps --no-index --wheel-dir dist .

clean:
	rm -rf build dist output .mypy_cache .ruff_cache .pytest_cache *.egg-info
