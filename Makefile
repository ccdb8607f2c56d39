# `make demo`, `make test`, `make check`, `make bench`. The first run makes .venv, with no more in it than is
# needed; PYTHON=/path/to/python chooses its interpreter, else the newest that works is taken.

BIN := .venv/bin
MADE := .venv/.made
FOR_DEMO := .venv/.made-for-demo
# Three at a time on two cores: while two compute, one goes through the fleets of processes, which mostly wait. A file
# stays on one worker, and the files come in the order of tests/conftest.py: those that take longest first.
TESTS := $(BIN)/python -m pytest -n 3 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

.PHONY: help venv demo test check coverage bench shape messages clean

help:
	@echo 'make demo    see the balancer at work against a stand-in server on this machine (40 seconds)'
	@echo 'make test    run the tests (9 minutes on two cores)'
	@echo 'make check   format, lint, types, layers, then the tests (what CI runs)'
	@echo 'make coverage    the tests once more, to see which lines and branches they miss (twice as long)'
	@echo 'make bench   measure against the yardsticks'
	@echo 'make shape   count lines, files, import cycles and how far calls walk; BASE=COMMIT compares'
	@echo 'make messages    make docs/messages.md anew: what users read when something is wrong'
	@echo 'make venv    make .venv, or bring it up to date with pyproject.toml'
	@echo 'make clean   remove .venv and whatever the tools left behind'

venv: $(MADE)

# The stamps make the environment follow pyproject.toml, and nothing else.
$(MADE): pyproject.toml
	@PYTHON='$(PYTHON)' sh .ci/venv dev
	@touch $(FOR_DEMO) $@

$(FOR_DEMO): pyproject.toml
	@PYTHON='$(PYTHON)' sh .ci/venv cli
	@touch $@

demo: $(FOR_DEMO)
	@$(BIN)/balancer demo

test: $(MADE)
	@echo 'All tests take about 9 minutes on two cores; each dot is one that passed.'
	$(TESTS)

check: $(MADE)
	@echo 'All checks take about 10 minutes on two cores.'
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/project/test_layers.py
	$(TESTS)

coverage: $(MADE)
	$(TESTS) --cov --session-timeout 2700

messages: $(MADE)
	@$(BIN)/python tests/support/messages.py

bench: $(MADE)
	$(BIN)/python -m benchmarks

shape: $(MADE)
	@$(BIN)/python -m benchmarks.shape $(if $(BASE),--base '$(BASE)')

clean:
	rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
