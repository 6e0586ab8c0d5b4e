# `make demo` and `make test` set up all they need; a second run finds it there. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test unit conformance test-torch lint format build sanity sanity-core-2.19 sanity-core-newest molecule layers newest bench clean ready collection

TOOLS := tests/tools
COLLECTION := .ansible/collections/ansible_collections/airgap/torch_extensions

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.ansible/collections
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible

help: ## show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ready ## install flash-attn on two air-gapped nodes, twice; KEEP=1 leaves them up
	$(TOOLS)/demo.sh

test: ready ## all of the below, up to newest
	@$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target layers unit conformance lint build sanity; \
	status=$$?; $(MAKE) --no-print-directory --keep-going molecule newest && exit $$status
	@echo "All tests passed."

unit: ready ## pytest: the plugins and the project itself
	PYTHONPATH=.ansible/collections pytest --numprocesses=auto tests/unit

conformance: ready ## pytest: our guesses against upstream's own code
	PYTHONPATH=.ansible/collections pytest tests/conformance

test-torch: ready ## pytest: the proof against real builds of torch, 32 GB of them; no part of test
	PYTHONPATH=.ansible/collections pytest tests/torch

lint: ready ## ruff, yamllint, ansible-lint, shellcheck, antsibull
	$(TOOLS)/lint.sh

format: ready ## let ruff lay out the Python files
	ruff check --fix --select I .
	ruff format .

build: ready ## build the collection, install the artefact, use it, galaxy-importer
	$(TOOLS)/build.sh

sanity: ready ## ansible-test sanity, on the oldest and the newest ansible-core
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target sanity-core-2.19 sanity-core-newest

sanity-core-2.19: ready
	$(TOOLS)/sanity.sh core-2.19 3.11 3.13

sanity-core-newest: ready
	$(TOOLS)/sanity.sh core-newest 3.12 3.14

molecule: ready ## the scenarios on the stand; SCENARIO=name runs one
	$(TOOLS)/molecule.sh $(SCENARIO)

layers: ready # what the scenarios' nodes are made of; it waits for downloads more than it computes
	$(TOOLS)/molecule.sh --prepare

newest: ready ## the plugins and the main job on the newest ansible-core
	$(TOOLS)/newest.sh

bench: collection ## what the role costs, against other ways; NODES="2 8 32 64", RUNS=3, FORKS=5, ONLY="ping role-idle", KEEP=1
	@$(TOOLS)/machine.sh
	@$(TOOLS)/venv.sh .venv-bench bench 3.11 3.13
	$(TOOLS)/as-root.sh .venv-bench/bin/python benchmarks/fleet.py $(if $(NODES),--nodes $(NODES)) $(if $(RUNS),--runs $(RUNS)) \
	  $(if $(FORKS),--forks $(FORKS)) $(if $(ONLY),--only $(ONLY)) $(if $(KEEP),--keep)

clean: ## remove what these commands made in this folder
	$(TOOLS)/clean.sh

ready: collection
	@$(TOOLS)/machine.sh
	@$(TOOLS)/venv.sh .venv dev 3.11 3.13

collection:
	@mkdir -p $(dir $(COLLECTION)) && ln -sfn ../../../.. $(COLLECTION)
