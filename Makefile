# Needs Python >= 3.11 with venv, and a package index.
PYTHON ?= python3
WORKERS ?= 4
PORT ?= 8000
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: run serve test check soak bench-smoke clean

run: .venv/app.done ## Migrate the reference application's database, and show it
	@$(BIN)/orchestrator run --config config/orchestrator.toml
	@$(BIN)/orchestrator status --config config/orchestrator.toml

serve: .venv/app.done ## Serve the reference application with several workers, on a new database
	rm -rf var/serve.db var/.serve.db.orchestrator
	ORCHESTRATOR_DATABASE_URL=sqlite:///var/serve.db \
		$(BIN)/uvicorn --factory app.main:create_app --workers $(WORKERS) --port $(PORT)

test: .venv/test.done ## Run the whole test suite, with coverage of child processes
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: .venv/test.done ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip --disable-pip-version-check install --quiet "pip>=25.1"

.venv/app.done: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable . --group app
	@touch $@

.venv/test.done: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable . --group test --group check
	@touch $@ .venv/app.done

clean: ## Remove everything that was made
	rm -rf .venv var build dist .coverage* htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis
