# Bare `make` lists the targets. Every target installs what it needs first.
SHELL := bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
BIN := .venv/bin

.PHONY: help
help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: venv
venv: .venv/ready ## the development environment, from the lock file

.venv/ready: requirements.lock pyproject.toml
	@hack/venv

.PHONY: lock
lock: ## requirements.lock anew, from pyproject.toml's ranges
	@hack/lock

.PHONY: check
check: venv ## format, lint, types, layers, generated files, shell and Dockerfile (seconds)
	@hack/check

.PHONY: generate
generate: venv ## the CRD, the API reference and the dashboard from their sources
	@$(BIN)/python hack/generate.py

.PHONY: demo
demo: venv ## the quick start: 30 real uploads, a burst included, each record checked, and a picture of what scaled when
	@$(BIN)/python examples/video-processing/demo.py

.PHONY: examples
examples: venv ## every example on this machine, with a proof of what it shows; ARGS='--chaos' kills workers meanwhile
	@PYTHONPATH=tests $(BIN)/python -m proofs $(ARGS)

.PHONY: examples-cluster
examples-cluster: venv ## the same on a real cluster
	@PYTHONPATH=tests $(BIN)/python -m proofs --cluster $(ARGS)

.PHONY: test
test: venv ## every tier: check, unit, streams, chaos, cluster; TIERS='unit streams' for some
	@hack/test $(TIERS)

.PHONY: bench
bench: venv ## one worker beside a raw C client and other task queues, six minutes; ARGS='--help' says how
	@PYTHONPATH=tests $(BIN)/python -m bench.throughput $(ARGS)

.PHONY: bench-cluster
bench-cluster: venv ## how fast the control plane is on a real cluster
	@PYTHONPATH=tests $(BIN)/python -m bench.cluster

.PHONY: bench-operator
bench-operator: venv ## a thousand pipelines under one operator: Ready, memory, at rest, bursts, a takeover; ARGS='--help'
	@PYTHONPATH=tests $(BIN)/python -m bench.operator_scale $(ARGS)

.PHONY: bench-overload
bench-overload: venv ## three times what workers can do, for two minutes on a real cluster: High flows, Low waits, nothing is lost
	@PYTHONPATH=tests $(BIN)/python -m bench.overload

.PHONY: chaos-workers
chaos-workers: venv ## a ledger of what workers did while they, their connections and the server were killed; ARGS='--help'
	@PYTHONPATH=tests $(BIN)/python -m chaos.ledger $(ARGS)

.PHONY: bench-autoscale
bench-autoscale: venv ## the pilot beside KEDA and an oracle, on six load traces, and its reaction on a cluster; ARGS='--help'
	@PYTHONPATH=tests $(BIN)/python -m bench.autoscale $(ARGS)

.PHONY: crash-operator
crash-operator: venv ## the operator killed before and after every write, and in bad weather; ARGS='--help'
	@PYTHONPATH=tests $(BIN)/python -m chaos.operator $(ARGS)
