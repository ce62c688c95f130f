# Needs Python >= 3.11 with venv, and a package index.
PYTHON ?= python3
WORKERS ?= 4
PORT ?= 8000
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# Without bytecode every process would compile all it imports anew, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run serve picture screenshots test test-slow coverage test-stacks test-matrix check soak bench bench-smoke clean

run: .venv/app.done ## Migrate the reference application's database, and show it
	@$(BIN)/orchestrator run --config config/orchestrator.toml
	@$(BIN)/orchestrator status --config config/orchestrator.toml

DATABASE_URL ?= sqlite:///var/serve.db

serve: .venv/app.done ## Serve the reference application with several workers: DATABASE_URL=, WORKERS=
	rm -rf var/serve.db var/.serve.db.orchestrator
	@ORCHESTRATOR_DATABASE_URL='$(DATABASE_URL)' \
		$(BIN)/uvicorn --factory app.main:create_app --workers $(WORKERS) --port $(PORT)

picture: .venv/test.done ## Draw docs/start.svg anew, from starts of real processes
	$(BIN)/python -m tests.picture docs/start.svg

screenshots: .venv/test.done ## Take the pictures of docs/gate anew, in Chromium
	$(BIN)/python -m tests.asgi.screenshots

test: .venv/test.done ## Run the test suite: ARGS=tests/run
	$(BIN)/python -m pytest -n 4 -m "not slow" $(ARGS)

test-slow: .venv/test.done ## Run what takes long beside it: browsers, clusters, races
	$(BIN)/python -m pytest -n 4 -m slow $(ARGS)

coverage: .venv/test.done ## The same with coverage of child processes, which takes twice as long
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 -m "not slow" $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-stacks: ## Run a project of each stack, with the newest releases: ARGS=sqlmodel, ARGS=-airflow
	$(PYTHON) tests/stacks/run.py $(ARGS)

test-matrix: ## Run the tests of the revisions with older releases of Alembic and SQLAlchemy
	PYTHON=$(PYTHON) tests/matrix.sh $(ARGS)

soak: .venv/test.done ## Race real processes against faults: DATABASE=, ROUNDS=, SECONDS=, SEED=
	$(BIN)/python -m tests.races $(if $(DATABASE),--database $(DATABASE)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

check: .venv/test.done ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright

bench: .venv/test.done .venv-bench/done ## Measure everything beside its peers: ARGS=--rounds=9
	$(BIN)/python -m benchmarks $(ARGS)

bench-smoke: .venv/test.done .venv-bench/done ## Each case of the benchmark once, small
	$(BIN)/python -m benchmarks --smoke
	$(BIN)/python -m benchmarks.gate --smoke

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip --disable-pip-version-check install --quiet "pip>=25.1"

.venv/app.done: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable . --group app
	@touch $@

.venv/test.done: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable . --group test --group check
	@touch $@ .venv/app.done

# An environment for each peer; dbmate only where npm is.
.venv-bench/done: benchmarks/requirements.txt
	for peer in alembic:alembic yoyo:yoyo-migrations django:django; do \
		$(PYTHON) -m venv .venv-bench/$${peer%%:*} && \
		.venv-bench/$${peer%%:*}/bin/python -m pip --disable-pip-version-check install --quiet \
			--constraint benchmarks/requirements.txt $${peer##*:} || exit 1; \
	done
	! command -v npm > /dev/null || \
		npm install --silent --no-audit --no-fund --no-save --prefix .venv-bench dbmate@2.36.0
	touch $@

clean: ## Remove everything that was made
	rm -rf .venv .venv-bench .venv-matrix .venv-stacks var build dist .coverage* htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis
