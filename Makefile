# `make demo`, `make test`, `make check`, `make bench`. The first run makes .venv;
# PYTHON=/path/to/python chooses its interpreter, else the newest that works is taken.

BIN := .venv/bin
MADE := .venv/.made
# Two at a time: much of what tests do is to wait for processes. A file stays on one worker.
TESTS := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: help venv demo test check bench shape clean

help:
	@echo 'make demo    see the balancer at work against a stand-in server on this machine'
	@echo 'make test    run the tests'
	@echo 'make check   format, lint, types, layers, then the tests with branch coverage (what CI runs)'
	@echo 'make bench   measure against the yardsticks'
	@echo 'make shape   count lines, files, import cycles and how far calls walk; BASE=COMMIT compares'
	@echo 'make venv    make .venv, or bring it up to date with pyproject.toml'
	@echo 'make clean   remove .venv and whatever the tools left behind'

venv: $(MADE)

# The stamp makes the environment follow pyproject.toml, and nothing else.
$(MADE): pyproject.toml
	@PYTHON='$(PYTHON)' sh .ci/venv
	@touch $@

demo: $(MADE)
	@$(BIN)/balancer demo

test: $(MADE)
	$(TESTS)

check: $(MADE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py
	$(TESTS) --cov

bench: $(MADE)
	$(BIN)/python -m benchmarks

shape: $(MADE)
	@$(BIN)/python -m benchmarks.shape $(if $(BASE),--base '$(BASE)')

clean:
	rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
