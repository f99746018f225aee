# `make demo`, `make test` and `make check` each work alone on a machine with make and a Python 3.11,
# 3.12 or 3.13 (PYTHON=python3.12 chooses): they create .venv, install what they need at the tested
# versions, and run.
PYTHON ?=
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test check wheel audit install clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt .ci/venv
	@bash .ci/venv "$(VENV)" "$(PYTHON)"
	@touch $@

demo: install
	@$(BIN)/isoskill demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: install
	$(BIN)/python .ci/wheel.py

audit:
	@bash .ci/audit

clean:
	rm -rf $(VENV) build dist *.egg-info sweeps
