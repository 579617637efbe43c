# `make reproduce` and `make test` are all that a newcomer needs; `make help` lists the rest.

PYTHON ?= python3
PROFILE ?= quick
SITE ?= site
# `nproc` obeys these variables.
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || sysctl -n hw.ncpu)
REFERENCE ?= HEAD
# Where `make reproduce` writes: beside the committed set, if there is one.
CANDIDATE ?= $(firstword $(wildcard runs/results/$(PROFILE)) results/$(PROFILE))

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
LOCK := requirements.lock

export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.PHONY: help setup reproduce data test test-cluster fuzz soak gate bench lint format lock schema licences docs clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed ## make the environment in .venv; the other targets do it when needed

reproduce: $(VENV)/.installed ## from data to tables of PROFILE (quick, transfer, tasks, published, desk, paper, smoke): as committed? ACCEPT=1 replaces them; ON=slurm GPUS=4 submits to a cluster; STORE=s3://BUCKET without a shared file system
	@$(BIN)/python workflow/launch.py --profile $(PROFILE) --cores $(CORES) $(if $(ACCEPT),--accept) \
		$(if $(ON),--on $(ON)) $(if $(GPUS),--gpus $(GPUS)) $(if $(STORE),--store $(STORE))

data: $(VENV)/.installed ## fetch or build the datasets of PROFILE, and restore damaged ones
	@$(BIN)/python workflow/launch.py --profile $(PROFILE) --cores $(CORES) -- data

test: $(VENV)/.installed ## run the tests on CORES cores, a file of tests on one of them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder

test-cluster: $(VENV)/.installed ## run the workflow on a Slurm cluster that is started here: as root, with slurm-wlm and munge installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster tests/cluster

fuzz: $(VENV)/.installed ## try 1,000 random profiles and 1,000 damaged files of each kind; writes results/bench/fuzz.csv
	$(BIN)/python workflow/fuzz.py --cores $(CORES)

soak: $(VENV)/.installed ## kill, crowd and starve the profile smoke: the same tables? Writes results/bench/soak.csv
	$(BIN)/python workflow/soak.py

gate: $(VENV)/.installed ## fail where the results of PROFILE (CANDIDATE) got worse than those committed in REFERENCE
	$(BIN)/lorun gate --reference $(REFERENCE):results/$(PROFILE) --candidate $(CANDIDATE) \
		--markdown gate/summary.md --junit gate/junit.xml --json gate/gate.json

bench: $(VENV)/.installed ## time and bytes against the targets, into results/bench; leave the machine alone meanwhile
	$(BIN)/lorun data make photos
	$(BIN)/lorun bench
	$(BIN)/lorun scaling -c config/desk.yaml

lint: $(VENV)/.installed ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed ## format the code
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

lock: $(VENV)/.installed ## resolve the dependencies anew into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra archive --extra report --extra workflow --extra docs --extra dev \
		--universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-header --quiet --output-file $(LOCK)

schema: $(VENV)/.installed ## write the JSON schema of profiles from the typed configuration
	$(BIN)/lorun config schema > workflow/schemas/profile.schema.json

licences: $(VENV)/.installed ## write LICENCES.md from the registry of datasets and the cards of the baselines
	$(BIN)/lorun licences > LICENCES.md

docs: $(VENV)/.installed ## build the documentation and the pages of all result sets into SITE (site), without network; a warning is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs $(SITE)
	$(BIN)/lorun report results --out $(SITE)/results

clean: ## remove runs, built data, logs and the built site (results and fetched data stay)
	rm -rf runs logs gate data/photos data/photos_spectral data/.cubes data/.*.ok .snakemake site docs/api

# uv is bootstrapped into the environment itself; everything else comes from the lock, by hash.
$(VENV)/.installed: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit(f"Python 3.11 to 3.13 is needed; {sys.executable} is {v[0]}.{v[1]}. Set PYTHON=python3.12, for example.")'
	@echo "Installing into $(VENV): 7 GB, a minute or more"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install --require-hashes --compile-bytecode --requirement $(LOCK)
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
