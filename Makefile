# Sets up a virtual environment in .venv and runs the project's own commands in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

DATA ?= data
RESULTS ?= runs/quick
SPEED ?= runs/speed
MODELS ?= $(SMALL)
SMALL ?= hf:HuggingFaceTB/SmolLM2-135M-Instruct
OTHER ?= hf:Qwen/Qwen2.5-Coder-0.5B-Instruct

.PHONY: demo test test-ray test-litellm test-extras docs lint format results-quick speed clean

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

# LiteLLM brings versions of packages that others do not want: it has an environment of its own.
test-litellm: $(BIN)/.ready
	$(PYTHON) -m venv $(VENV)/litellm
	$(VENV)/litellm/bin/pip install --quiet "litellm[proxy]==1.108.7"
	RAIN_LITELLM=$(CURDIR)/$(VENV)/litellm/bin/litellm $(BIN)/pytest -q tests/server/test_litellm.py

# The wheel with each of EXTRAS (all, without it) in an empty environment; those with torch or Ray take minutes each.
test-extras: $(BIN)/.ready
	RAIN_INSTALL_TESTS=1 EXTRAS="$(EXTRAS)" $(BIN)/pytest -q tests/install

# The documentation site, in build/site; a warning, such as a broken link, is an error.
docs: $(BIN)/.ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

lint: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A small version of docs/results/real-models.md: SMALL answers, OTHER reads what it says. DATA: see that page.
results-quick: $(BIN)/.ready
	PYTHONPATH=tools $(BIN)/python -m real_models.evidence --data $(DATA) --out $(RESULTS) --limit 4 --labels 160 \
	  --max-tokens 48 --concurrency 8 --model smollm2-135m=$(SMALL) --model qwen-0.5b=$(OTHER) --of smollm2-135m
	cat $(RESULTS)/tables.md

# The table and the picture of docs/results/speed.md, of MODELS.
speed: $(BIN)/.ready
	PYTHONPATH=tools $(BIN)/python -m real_models.speed $(MODELS) --out $(SPEED)

clean:
	rm -rf $(VENV)
