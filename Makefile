# `make run` starts a demo server, `make test` runs the whole suite; both set up all they need.
PORT ?= 8000
DATA_DIR ?= ./data
export PORT DATA_DIR
PY := .venv/bin/python
JOBS ?= 2

.PHONY: run test test-quick soak lint bench bench-peer bench-growth bench-validation bench-terminology bench-subscriptions bench-fhirpath conformance docs definitions clean

run:
	@scripts/setup run
	@exec .venv/bin/fhir-server demo serve --port $(PORT) --data-dir $(DATA_DIR)

test: lint
	@scripts/setup-browser
	@$(PY) -m pytest -n $(JOBS) --dist loadgroup -q

test-quick: lint
	@$(PY) -m pytest -n $(JOBS) --dist loadgroup -q -m "not browser"

soak:
	@scripts/setup dev
	@SOAK=1 $(PY) -m pytest -q -m "soak or longer"

lint:
	@scripts/setup dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports
	@.venv/bin/mypy
	@$(PY) scripts/check_docs.py

bench:
	@scripts/setup dev
	@$(PY) -m benchmarks $(if $(PEER),--peer $(PEER)) $(BENCH)

bench-peer:
	@scripts/setup dev
	@$(PY) -m benchmarks.side_by_side --peer $(PEER) --pid $(PEER_PID) $(BENCH)

bench-growth:
	@scripts/setup dev
	@$(PY) -m benchmarks.growth $(if $(SIZES),--sizes $(SIZES)) $(GROWTH)

bench-validation:
	@scripts/setup dev
	@$(PY) -m benchmarks.validation_speed $(BENCH)

bench-terminology:
	@scripts/setup dev
	@$(PY) -m benchmarks.terminology_speed $(BENCH)

bench-subscriptions:
	@scripts/setup dev
	@$(PY) -m benchmarks.subscription_speed $(BENCH)

bench-fhirpath:
	@scripts/setup dev
	@$(PY) -m benchmarks.fhirpath_speed $(BENCH)

conformance:
	@scripts/setup dev
	@$(PY) scripts/conformance.py $(CONFORMANCE)

docs:
	@scripts/setup dev
	@$(PY) scripts/check_docs.py --write

definitions:
	@scripts/setup dev
	@$(PY) scripts/build_definitions.py $(PACKAGE)

clean:
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
