# Sets up a virtual environment in .venv and runs the project's own commands in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-ray lint format clean

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(BIN)/.ready
	$(BIN)/rain demo

test: $(BIN)/.ready
	$(BIN)/pytest -n 2 -q

# Ray is large and brings another event loop: it is installed for its own tests only.
test-ray: $(BIN)/.ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[ray]"
	RAIN_RAY_TESTS=1 $(BIN)/pytest -q -m ray

lint: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)
