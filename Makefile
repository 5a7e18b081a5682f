# `make backup` and `make test` are all that a newcomer needs. What they install lives in .tools and target,
# except for Debian's own packages.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ARCHITECTURE ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)
STACK ?= lifeboat
# Other selections of packages than these two would compile every dependency once more, with other features.
CARGO_LOCAL := --locked --profile local
BIN := $(or $(CARGO_TARGET_DIR),target)/local
LINT := .tools/infra/bin
CLOUD := .tools/venv/bin

export SAM_CLI_TELEMETRY := 0
# An explicit path, since sam builds the layer in a copy of its folder.
export PGTOOLS := $(CURDIR)/.tools/pgtools

.PHONY: help
help: ## Show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

# ---- Run

.PHONY: programs
programs: setup
	@echo "compile the functions and the local cloud (minutes the first time)"
	@cargo build $(CARGO_LOCAL) -p alert -p drill -p dump -p localcloud -p restore -p snapshot-branch -p verify

.PHONY: backup
backup: programs ## Back up a sample database, or DATABASE_URL=postgresql://…, on this machine
	@$(BIN)/localcloud backup $(if $(NEON),--neon)

.PHONY: drill
drill: programs ## Prove the latest backup: restore it, compare every table, destroy the copy
	@$(BIN)/localcloud drill $(if $(DATABASE),--database '$(DATABASE)')

# TARGET_URL reaches the program through the environment: it may hold a password.
RESTORE := $(foreach option,DATABASE BACKUP POINT TABLES INTO VAULT WORK TARGET,$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) '$($(option))'))

.PHONY: restore
restore: programs ## Restore the latest backup, or BACKUP=, POINT=, TABLES=, into a new database or TARGET_URL=
	@$(BIN)/localcloud restore $(RESTORE) $(if $(YES),--yes)

# Tests mostly wait: for servers to start, for state machines, for what they have delayed.
TEST_THREADS ?= 5

.PHONY: test
test: setup browser .tools/neon-5.0.1/ready ## Run every test but those that take minutes each
	@echo "test: compile (minutes the first time)"
	@cargo build $(CARGO_LOCAL) --workspace --all-targets
	@RUST_TEST_THREADS=$(TEST_THREADS) cargo test $(CARGO_LOCAL) --workspace

.PHONY: slow
slow: test ## Run every test: also kills, cuts and deadlines of restores and drills
	@cargo test $(CARGO_LOCAL) --workspace -- --ignored

.PHONY: bench
bench: setup ## Measure against pg_dump on the same database and storage
	@cargo build $(CARGO_LOCAL) --workspace --bins
	@$(BIN)/bench

.PHONY: lint
lint: .tools/infra/ready .tools/npm/asl-validator-4.0.0 ## Check formatting, code, template, state machines, crates, configuration
	@echo "lint: cargo fmt"
	@cargo fmt --all --check
	@echo "lint: template (cfn-lint, sam validate)"
	@$(LINT)/cfn-lint -c I -t infra/template.yaml
	@$(LINT)/sam validate --region us-east-1 | tail -n 1
	@echo "lint: state machines (asl-validator)"
	@.tools/npm/node_modules/.bin/asl-validator $(addprefix --json-path ,$(wildcard infra/*.asl.json))
	@echo "lint: crates, licences and sources (cargo-deny)"
	@$(LINT)/cargo-deny --locked check bans licenses sources
	@$(MAKE) clippy
	@echo "lint: infra/config/lifeboat.toml"
	@cargo build $(CARGO_LOCAL) --workspace --all-targets
	@$(BIN)/examples/check_config infra/config/lifeboat.toml

.PHONY: clippy
clippy: | debian
	@echo "lint: cargo clippy"
	@cargo clippy $(CARGO_LOCAL) --workspace --all-targets -- -D warnings

# ---- Deploy

.PHONY: pgtools
pgtools: ## Build pg_dump, pg_restore and psql for Lambda (once)
	@infra/debian_packages.sh build-essential bison flex perl bzip2 libssl-dev zlib1g-dev libzstd-dev liblz4-dev
	@$(MAKE) -C infra/pgtools

.PHONY: package
package: setup .tools/infra/ready .tools/infra/build-ready pgtools ## Build what Lambda runs and check every piece of it
	@echo "package: sam build for $(ARCHITECTURE) (minutes per function)"
	@PATH="$(CURDIR)/$(LINT):$$PATH" sam build --parameter-overrides Architecture=$(ARCHITECTURE)
	@$(CLOUD)/python infra/check_package.py $(LINT)/sam $(ARCHITECTURE)

.PHONY: deploy
deploy: ## Deploy to the AWS account of the environment, and take a first backup
	@echo "deploy: check infra/config/lifeboat.toml"
	@cargo build $(CARGO_LOCAL) --workspace --all-targets
	@$(BIN)/examples/check_config --complete infra/config/lifeboat.toml
	@$(MAKE) package
	@$(LINT)/sam deploy --stack-name $(STACK) --parameter-overrides Architecture=$(ARCHITECTURE) $(PARAMETERS)
	@infra/after_deploy.sh $(STACK)

# ---- Install

.PHONY: setup
setup: .tools/venv/ready

# All that lint and test install, beside what clippy compiles: with -j, one waits while the other works.
.PHONY: prepare
prepare: setup browser .tools/neon-5.0.1/ready .tools/infra/ready .tools/npm/asl-validator-4.0.0 clippy

# Whatever of it is already there is left alone; without apt-get, only the missing names are told.
DEBIAN := postgresql postgresql-contrib pgbouncer age zstd jq
DEBIAN += $(if $(shell command -v cc),,build-essential)
DEBIAN += $(if $(shell python3 -c 'import ensurepip, venv' 2>/dev/null && echo yes),,python3 python3-venv)

# A browser, for the test that looks at the drill's page.
BROWSER := chromium fonts-dejavu-core

.PHONY: debian
debian:
	@infra/debian_packages.sh $(DEBIAN)

.PHONY: browser
browser: | debian
	@infra/debian_packages.sh $(BROWSER)

.tools/venv/ready: tests/localcloud/requirements.txt | debian
	@echo "setup: Python packages of the local cloud"
	@python3 -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.tools/infra/ready: infra/requirements.txt | debian
	@echo "setup: Python packages of lint"
	@python3 -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.tools/infra/build-ready: infra/build-requirements.txt .tools/infra/ready
	@echo "setup: the cross compiler of make package"
	@$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.tools/npm/asl-validator-%: | debian
	@infra/debian_packages.sh $(if $(shell command -v npm),,nodejs npm)
	@echo "setup: asl-validator $*"
	@npm install --silent --no-audit --no-fund --prefix $(@D) asl-validator@$*
	@touch $@

# Neon's command line, against which the tests hold their stand-in of Neon.
.tools/neon-%/ready: | debian
	@infra/debian_packages.sh $(if $(shell command -v npm),,nodejs npm)
	@echo "setup: neon $*"
	@npm install --silent --no-audit --no-fund --omit=optional --prefix $(@D) neon@$*
	@touch $@
