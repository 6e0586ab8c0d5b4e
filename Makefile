# `make demo` and `make test` set up all they need; a second run finds it there. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
TOOLS := tests/tools
COLLECTION := .ansible/collections/ansible_collections/airgap/torch_extensions
SCENARIOS := $(patsubst molecule/%/molecule.yml,molecule-%,$(wildcard molecule/*/molecule.yml))
# each ansible-core, by its file in requirements-dev, and what is run on each
CORES := $(patsubst requirements-dev/core-%.txt,%,$(wildcard requirements-dev/core-*.txt))
PLUGINS := $(CORES:%=%-plugins)
PLAYS := $(foreach core,$(CORES),$(core)-default $(core)-lock $(core)-bundle $(core)-users)
# the steps of `make test`: those that need no nodes, and those that do; all but the newest run on the oldest ansible-core
SANITY := sanity-core-2.16 sanity-core-newest
STEPS := unit conformance lint build $(SANITY) newest-plugins
NEWEST := $(filter newest-%,$(PLAYS))
ON_NODES := $(SCENARIOS) $(NEWEST) chaos
.PHONY: help demo check test test-torch test-build chaos format sanity molecule layers newest cores bench coverage clean ready collection $(STEPS) \
  $(SCENARIOS) $(PLUGINS) $(PLAYS) lint-changed unit-quick

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.ansible/collections
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible
unexport PYTHONDONTWRITEBYTECODE # or else pytest compiles all tests anew in each of its processes

help: ## show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ready ## install flash-attn on two air-gapped nodes, twice; KEEP=1 leaves them up
	$(TOOLS)/demo.sh

check: ready ## lint what differs from main, and run the unit tests that are quick
	@python $(TOOLS)/steps.py unit-quick lint-changed

test: export MINUTES := 1 # of chaos
test: ready ## all of the below, up to newest, and a minute of chaos
	@python $(TOOLS)/steps.py $(STEPS) --after layers $(ON_NODES)

unit: ready ## pytest: the plugins and the project itself
	PYTHONPATH=.ansible/collections pytest --numprocesses=auto tests/unit

unit-quick: ready
	PYTHONPATH=.ansible/collections pytest --numprocesses=auto -m "not slow" tests/unit

conformance: ready ## pytest: our guesses against upstream's own code
	PYTHONPATH=.ansible/collections pytest tests/conformance

test-torch: ready ## pytest: the proof against real builds of torch, 32 GB of them; no part of test
	PYTHONPATH=.ansible/collections pytest tests/torch

test-build: ready ## pytest: real packages built by the role on the stand, for hours; ONLY="causal" runs a part; BUILD_MINUTES=60; no part of test
	PYTHONPATH=.ansible/collections $(TOOLS)/as-root.sh pytest tests/build $(if $(ONLY),-k "$(ONLY)")

lint: ready ## ruff, mypy, import-linter, yamllint, ansible-lint, shellcheck, antsibull, actionlint and more
	$(TOOLS)/lint.sh

lint-changed: ready
	$(TOOLS)/lint.sh --changed

format: ready ## let ruff lay out the Python files
	ruff check --fix --select I .
	ruff format .

build: ready ## build the collection, install the artefact, use it, galaxy-importer
	$(TOOLS)/build.sh

sanity: ready ## ansible-test sanity, on the oldest and the newest ansible-core
	@python $(TOOLS)/steps.py $(SANITY)

$(SANITY): sanity-core-%: ready
	$(TOOLS)/with-core.sh $* $(TOOLS)/sanity.sh $*

molecule: ready ## the scenarios on the stand; SCENARIO=name runs one
	@$(if $(SCENARIO),$(TOOLS)/molecule.sh $(SCENARIO),python $(TOOLS)/steps.py --after layers $(SCENARIOS))

$(SCENARIOS): molecule-%: ready
	$(TOOLS)/molecule.sh $*

layers: ready # what the scenarios' nodes are made of; it waits for downloads more than it computes
	$(TOOLS)/molecule.sh --prepare

newest: ready ## the plugins and the main job, locks, bundles and become on the newest ansible-core
	@python $(TOOLS)/steps.py newest-plugins --after layers $(NEWEST)

cores: ready ## the same on each ansible-core; no part of test
	@python $(TOOLS)/steps.py $(PLUGINS) --after layers $(PLAYS)

# on the newest one, modules are run by the actions alone, as nodes run them
$(PLUGINS): %-plugins: ready
	PYTHONPATH=.ansible/collections $(TOOLS)/with-core.sh $* pytest --numprocesses=auto $(if $(filter newest,$*),,tests/unit/plugins/modules) \
	  tests/unit/plugins/{action,lookup,plugin_utils/_delivery/test_connection.py}

$(PLAYS): core = $(firstword $(subst -, ,$@))
$(PLAYS): ready
	$(TOOLS)/with-core.sh $(core) $(TOOLS)/molecule.sh $(lastword $(subst -, ,$@)) -$(core)

chaos: ready ## let things go wrong on the stand, at random, and check what must hold; MINUTES=10, SEED=7, ROUND=3 repeats one round
	$(TOOLS)/as-root.sh unshare --mount python tests/chaos/campaign.py --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) \
	  $(if $(ROUND),--round $(ROUND))

bench: collection ## what the role costs, against other ways; NODES="2 8 32 64", RUNS=3, FORKS=5, ONLY="ping role-idle", KEEP=1
	@$(TOOLS)/machine.sh
	@$(TOOLS)/venv.sh .venv-bench "$$($(TOOLS)/find-python.sh 3.11 3.13)" bench
	$(TOOLS)/as-root.sh .venv-bench/bin/python benchmarks/fleet.py $(if $(NODES),--nodes $(NODES)) $(if $(RUNS),--runs $(RUNS)) \
	  $(if $(FORKS),--forks $(FORKS)) $(if $(ONLY),--only $(ONLY)) $(if $(KEEP),--keep)

coverage: ready ## for which environments flash-attn has a wheel, by the listings in tests/listings
	@PYTHONPATH=.ansible/collections python $(TOOLS)/coverage.py

clean: ## remove what these commands made in this folder
	$(TOOLS)/clean.sh

ready: collection
	@$(TOOLS)/machine.sh
	@$(TOOLS)/venv.sh .venv "$$($(TOOLS)/find-python.sh 3.11 3.13)" dev

collection: $(COLLECTION)

$(COLLECTION):
	@mkdir -p $(@D) && ln -sfn ../../../.. $@
