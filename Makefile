# Everything that a person or a CI job starts. `make` alone lists it.
#
#   PYTHON=...   which Python makes the environments (default: the newest of 3.11 to 3.14 that is found)
#   PORT=8080    where `make run` and `make run-vllm` listen
#   JOBS=1       run the tests in one process (default: in four, on a machine with two cores or more: those with the
#                cluster's and the operator's tests mostly wait)
#   ARGS=...     further arguments of pytest, of the benchmark or of `capstan up`

VENV ?= .venv
VLLM_VENV ?= .venv-vllm
PORT ?= 8080
ARGS ?=
JOBS ?= $(shell [ "$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)" -ge 2 ] && echo 4 || echo 1)
BIN := $(VENV)/bin
CLUSTER := ../shared/cluster/cluster
export PYTHON VENV

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run run-vllm test mutants check format e2e e2e-vllm e2e-scaling-cycles kind-up kind-down bench bench-operator bench-keys bench-guards bench-cache \
        bench-prefix bench-traces bench-spike bench-failover bench-profile faults soak \
        crds compatibility train-guards eval-guards train-cache eval-cache eval-statistics lock vllm-venv clean

help: ## list what there is
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS='|' read -r name text; do printf '%-22s %s\n' "$$name" "$$text"; done

# --- set-up ---------------------------------------------------------------------------------------------------------

$(VENV)/.installed-run: pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh run

$(VENV)/.installed-dev: pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh dev

vllm-venv: ## make .venv-vllm with real vLLM for the CPU (3.5 GB)
	@scripts/vllm.sh venv

# --- use ------------------------------------------------------------------------------------------------------------

run: $(VENV)/.installed-run ## serve examples/quickstart here, with simulated models
	@exec $(BIN)/capstan up -f examples/quickstart --port $(PORT) $(ARGS)

run-vllm: $(VENV)/.installed-run ## the same manifests on real vLLM on the CPU
	@scripts/vllm.sh run --port $(PORT) $(ARGS)

kind-up: ## a kind cluster with Capstan and the quickstart in it (needs Docker, kind, kubectl, helm)
	@scripts/kind_up.sh up

kind-down: ## end that cluster
	@scripts/kind_up.sh down

# --- tests and checks -----------------------------------------------------------------------------------------------

test: $(VENV)/.installed-dev ## every test that this machine can run; says what it left out
	@$(BIN)/python -m pytest $(if $(filter-out 0 1,$(JOBS)),-n $(JOBS) --dist loadscope --no-loadscope-reorder) $(ARGS)

check: $(VENV)/.installed-dev ## formatting, linting, types, layers, generated files
	@scripts/check.sh

format: $(VENV)/.installed-dev ## let ruff format and fix
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

e2e: $(VENV)/.installed-dev ## the tests on a cluster with a node: ../shared/cluster (as root), or the kind cluster of CAPSTAN_TEST_KUBECONFIG
	@test -e $(CLUSTER) || test -n "$$CAPSTAN_TEST_KUBECONFIG" || { echo "error: $(CLUSTER) is not here, and CAPSTAN_TEST_KUBECONFIG names no kind cluster: see docs/testing.md" >&2; exit 1; }
	@$(BIN)/python -m pytest -m cluster $(ARGS)

e2e-vllm: $(VENV)/.installed-dev vllm-venv ## real vLLM as a model's pod on that cluster (3.5 GB image, some minutes)
	@CAPSTAN_E2E_VLLM=1 $(BIN)/python -m pytest tests/e2e/test_vllm_pod.py -s $(ARGS)

e2e-scaling-cycles: $(VENV)/.installed-dev ## a model from zero to three replicas and back, 20 times with pods of before and without, on that cluster (20 minutes)
	@CAPSTAN_E2E_SCALING=1 $(BIN)/python -m pytest tests/e2e/test_scaling_at_length.py -k cycles -s $(ARGS)

mutants: $(VENV)/.installed-dev ## change the code in many small ways: which changes does no test notice? (ARGS="ROOM ...")
	@$(BIN)/python scripts/mutants.py $(ARGS)

# --- benchmarks -----------------------------------------------------------------------------------------------------

bench-operator: $(VENV)/.installed-dev ## the operator with 1,000 and 5,000 LLMModels: time, writes, stalls, memory, API calls
	@$(BIN)/python bench/operator_scale.py $(ARGS)

bench-keys: $(VENV)/.installed-dev ## how soon an API key is let in, and refused, everywhere, among 10,000
	@$(BIN)/python bench/api_keys.py $(ARGS)

bench: $(VENV)/.installed-dev ## the gateway beside other gateways on this machine
	@$(BIN)/python bench/gateway.py $(ARGS)
	@test -n "$(ARGS)" || $(BIN)/python bench/gateway_queue.py

bench-queue: $(VENV)/.installed-dev ## what the queue costs beside the direct way, and what one tenant's flood costs another
	@$(BIN)/python bench/gateway_queue.py $(ARGS)

bench-profile: $(VENV)/.installed-dev ## where the gateway's microseconds go, layer by layer
	@$(BIN)/python bench/gateway_profile.py $(ARGS)

bench-guards: $(VENV)/.installed-dev ## what guards cost: detectors, streams, governed requests with guards and without
	@$(BIN)/python bench/guards.py $(ARGS)

bench-cache: $(VENV)/.installed-dev ## what hits of a cache take, what a miss costs, what an entry takes in memory
	@$(BIN)/python bench/caches.py $(ARGS)

bench-prefix: $(VENV)/.installed-dev ## prefix affinity on the Mooncake trace: cache hits, time to the first token
	@$(BIN)/python bench/prefix_replay.py $(ARGS)

bench-traces: $(VENV)/.installed-dev ## Auto, Queue, Direct and a plain Service on public traces, scaled: goodput, GPU-seconds (ARGS=--virtual)
	@$(BIN)/python bench/traces.py $(ARGS)

bench-spike: $(VENV)/.installed-dev ## ten times the load from one second to the next, on the one-node cluster: served, queued, refused (needs root)
	@CAPSTAN_E2E_SCALING=1 $(BIN)/python -m pytest tests/e2e/test_scaling_at_length.py -k spike -s $(ARGS)

bench-failover: $(VENV)/.installed-dev ## what failing over after a refused or reset connection or a 500 costs the client
	@$(BIN)/python bench/failover.py $(ARGS)

faults: $(VENV)/.installed-dev ## kill, part and stop everything under load, ten times each: what becomes of requests (ARGS="--times 1")
	@$(BIN)/python bench/faults.py $(ARGS)

soak: $(VENV)/.installed-dev ## 30 minutes of mixed load on a gateway: failures, and what it leaks (ARGS="--minutes 3")
	@$(BIN)/python bench/soak.py $(ARGS)

# --- files that are made from others --------------------------------------------------------------------------------

crds: $(VENV)/.installed-dev ## write crds/, docs/llmmodel.md and what the chart takes from them
	@scripts/generate.sh

eval-guards: $(VENV)/.installed-dev ## what guards find and let pass on ../shared/data, written into docs/guards.md (ARGS=--show, ARGS=--check)
	@$(BIN)/python scripts/eval_guards.py $(ARGS)

compatibility: $(VENV)/.installed-dev ## write docs/compatibility.md from the marks of the tests
	@$(BIN)/python scripts/compatibility.py

train-cache: $(VENV)/.installed-dev ## how the semantic cache judges pairs of questions, anew (DATA=../shared/data)
	@PYTHONPATH=scripts $(BIN)/python scripts/train_cache.py $(or $(DATA),../shared/data) $(ARGS)

eval-cache: $(VENV)/.installed-dev ## hits and precision of the semantic cache on public pairs, into docs/cache.md (DATA=../shared/data)
	@PYTHONPATH=scripts $(BIN)/python scripts/eval_cache.py $(or $(DATA),../shared/data) --write docs/cache.md $(ARGS)

eval-statistics: $(VENV)/.installed-dev ## whether Pass, Fail and intervals keep what they promise, by simulation, into docs/evaluation.md (ARGS="--trials N")
	@PYTHONPATH=scripts $(BIN)/python scripts/eval_statistics.py --write docs/evaluation.md $(ARGS)

train-guards: ## make the weights of the classifier of attacks anew from ../shared/data (one core, half an hour; ARGS=--folds: what they do on families unseen, twice that more)
	@scripts/train_guards.sh ../shared/data $(ARGS)

lock: ## write constraints.txt anew with the newest versions
	@scripts/lock.sh

clean: ## remove what was made here: environments, caches, local state
	rm -rf $(VENV) $(VLLM_VENV) .venv-train .venv-clients .venv-aider tests/agents/node_modules .capstan .cache \
	  .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis \
	  build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
