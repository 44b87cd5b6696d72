# The commands of this repository. `make demo` and `make test` work from a fresh clone: they make .venv when it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What was installed, and from which pins and C: the environment is made again when any of them changes.
STAMP := $(VENV)/.installed
# The peers of `make bench` want other versions than we do, hence an environment of their own.
BENCH_VENV := .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed
# For instance BENCH_FLAGS=--large
BENCH_FLAGS ?=

# `make wheelhouse` takes the version of another machine's Python by the same name.
WHEELHOUSE_PYTHON := $(filter 3.%,$(PYTHON))
ifneq ($(WHEELHOUSE_PYTHON),)
override PYTHON := python3
endif

.PHONY: demo test lint format clean
.DEFAULT_GOAL := help

.PHONY: help
help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt $(wildcard bundler/format/codec/*.[ch])
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer, found " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[test,lint]'
# On all cores, where pip takes one; some packages bring templates and such that are no Python.
	@$(BIN)/python -m compileall -q -q -j 0 $(VENV)/lib || true
	@touch $@

demo: $(STAMP)  ## fetch, pack, verify, install, train and try the memory, with the network shut
	$(BIN)/python -m demo.run

# With a floor under what of bundler/ the tests run in their own processes. Before Python 3.14 coverage.py makes those half
# as slow again, slipcover a quarter.
# Tests start the commands thousands of times: compiled once, whatever PYTHONDONTWRITEBYTECODE says.
test: $(STAMP)  ## the whole test suite
	$(BIN)/python -m compileall -q bundler infini_llama
	$(BIN)/python -m slipcover --source bundler --branch --json --out .coverage.json -m pytest -n auto --dist worksteal
	$(BIN)/python -m scripts.coverage_floor .coverage.json

.PHONY: coverage
coverage: $(STAMP)  ## the whole test suite, and the lines and branches of bundler/ that it does not run in any process
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-config=tests/coverage.cfg

$(BENCH_STAMP): benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Programs of others, in an environment without this package, and the tests that transformers ships with its sources.
CLIENTS := .clients
CLIENTS_VENV := .venv-clients
CLIENTS_STAMP := $(CLIENTS)/.installed

$(CLIENTS_STAMP): tests/infini_llama/clients/requirements.txt constraints.txt $(STAMP)
	rm -rf $(CLIENTS)
	$(PYTHON) -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $<
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary transformers -c constraints.txt -d $(CLIENTS) transformers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(CLIENTS)/site parameterized==0.9.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(CLIENTS)/trackers wandb mlflow-skinny sqlalchemy alembic
	cd $(CLIENTS) && tar -xzf transformers-*.tar.gz
	@touch $@

.PHONY: test-clients
test-clients: $(CLIENTS_STAMP)  ## our model under transformers' own tests, lm_eval, TRL, peft, W&B, MLflow, and training compiled
	$(BIN)/python -m pytest tests/infini_llama/clients

# Programs that `bundle record` writes manifests of, in an environment of their own.
PROGRAMS_VENV := .venv-programs
PROGRAMS_STAMP := $(PROGRAMS_VENV)/.installed

$(PROGRAMS_STAMP): tests/programs/requirements.txt constraints.txt $(STAMP)
	$(PYTHON) -m venv $(PROGRAMS_VENV)
	$(PROGRAMS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $<
	@touch $@

.PHONY: test-programs
test-programs: $(PROGRAMS_STAMP)  ## record, fetch and run programs of others, with no line by hand, into docs/record.md
	$(BIN)/python -m tests.programs.run --write
	$(BIN)/python -m pytest -n auto --programs -m programs tests/matrix

.PHONY: test-benchmarks
test-benchmarks: $(STAMP)  ## benchmarks on next to nothing, from end to end
	$(BIN)/python -m pytest -n auto --benchmarks -m benchmarks tests/benchmarks

SIGNING_STAMP := $(VENV)/.installed-signing

$(SIGNING_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test-signing]'
	@touch $@

.PHONY: test-signing
test-signing: $(SIGNING_STAMP)  ## sigstore bundles beside OpenSSF's model_signing, which brings 30 packages
	$(BIN)/python -m pytest tests/trust/dsse

STORES_STAMP := $(VENV)/.installed-stores

$(STORES_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test-stores]'
	@touch $@

.PHONY: test-stores
test-stores: $(STORES_STAMP)  ## bundles in an S3 on loopback, which brings 60 packages
	$(BIN)/python -m pytest tests/remote/stores

WHEELHOUSE_STAMP := $(VENV)/.installed-wheelhouse
# For instance WHEELHOUSE_FLAGS='--extra train', which brings torch
WHEELHOUSE_FLAGS ?=

$(WHEELHOUSE_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[wheelhouse]'
	@touch $@

.PHONY: wheelhouse
wheelhouse: $(WHEELHOUSE_STAMP)  ## wheels for a machine that has Python and nothing else: PYTHON=3.12 PLATFORM=manylinux_2_28_x86_64
	$(BIN)/python -m scripts.wheelhouse --python '$(WHEELHOUSE_PYTHON)' --platform '$(PLATFORM)' $(WHEELHOUSE_FLAGS)

.PHONY: test-wheelhouse
test-wheelhouse: $(WHEELHOUSE_STAMP)  ## such wheels installed where there is no network; takes 40 MB from the package index
	$(BIN)/python -m pytest tests/packaging/test_wheelhouse.py

# Programs of others that start, work and end under `bundle run`; no pins of ours, which would take old ones.
LAUNCHES_VENV := .venv-launches
LAUNCHES_STAMP := $(LAUNCHES_VENV)/.installed

$(LAUNCHES_STAMP): tests/offline/programs/requirements.txt $(STAMP)
	$(PYTHON) -m venv $(LAUNCHES_VENV)
	$(LAUNCHES_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: test-launches
test-launches: $(LAUNCHES_STAMP)  ## Ray, Dask, MLflow, spaCy, lm_eval and open_clip under `bundle run --strict`
	LAUNCHED_PYTHON=$(CURDIR)/$(LAUNCHES_VENV)/bin/python $(BIN)/python -m pytest tests/offline/programs

.PHONY: bench
bench: $(STAMP) $(BENCH_STAMP)  ## size, speed and memory beside other tools
	$(BIN)/python -m benchmarks.pack.run --peers $(BENCH_VENV)/bin $(BENCH_FLAGS)

.PHONY: bench-way
bench-way: $(STAMP)  ## from a bundle file to loaded weights, beside tar and openssl, into benchmarks/README.md
	$(BIN)/python -m benchmarks.pack.whole_way --write $(BENCH_FLAGS)

.PHONY: bench-way-3b bench-way-8b
bench-way-3b bench-way-8b: bench-way-%: $(STAMP)  ## the same with 7 and with 16 GB of weights, once
	$(BIN)/python -m benchmarks.pack.whole_way --write --shape $* --rounds 1

.PHONY: bench-planes
bench-planes: $(STAMP)  ## taking weights apart by numpy, by compiled code, and by an encoder of our own, into benchmarks/README.md
	$(BIN)/python -m benchmarks.planes.run --write

.PHONY: bench-files
bench-files: $(STAMP)  ## what many small files cost beside tar and sha256sum, into benchmarks/README.md
	$(BIN)/python -m benchmarks.pack.small_files --write

.PHONY: bench-cores
bench-cores: $(STAMP)  ## what of packing and installing is done in order, and what more cores would gain, into benchmarks/README.md
	$(BIN)/python -m benchmarks.cores.run --write $(BENCH_FLAGS)

.PHONY: bench-registry
bench-registry: $(STAMP)  ## a bundle in a registry: pushed, pulled, installed from there, and one tensor of it, into benchmarks/README.md
	$(BIN)/python -m benchmarks.registry.run --write $(BENCH_FLAGS)

.PHONY: bench-parity
bench-parity: $(STAMP)  ## how fast parity of a bundle is made and what is lost is rebuilt, into benchmarks/README.md
	$(BIN)/python -m benchmarks.parity.run --write $(BENCH_FLAGS)

.PHONY: bench-serve
bench-serve: $(STAMP)  ## what a served byte takes of the processor beside nginx, into benchmarks/README.md
	$(BIN)/python -m benchmarks.serve.run --write $(BENCH_FLAGS)

.PHONY: soak
soak: $(STAMP)  ## one file of 20 GB and 100,000 small ones, through all steps, into benchmarks/README.md
	$(BIN)/python -m benchmarks.pack.limits --write

# As for `make bench`: what is trained beside us brings its own requirements.
BENCH_TRAIN_VENV := .venv-bench-train
BENCH_TRAIN_STAMP := $(BENCH_TRAIN_VENV)/.installed

$(BENCH_TRAIN_STAMP): benchmarks/requirements-train.txt
	$(PYTHON) -m venv $(BENCH_TRAIN_VENV)
	$(BENCH_TRAIN_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: bench-train
bench-train: $(STAMP) $(BENCH_TRAIN_STAMP)  ## speed and memory of training and decoding, into benchmarks/README.md
	$(BIN)/python -m benchmarks.train.run --peer-python $(BENCH_TRAIN_VENV)/bin/python --write $(BENCH_FLAGS)

.PHONY: bench-recall
bench-recall: $(STAMP)  ## how far back a memory recalls, beside a gated DeltaNet and a Llama with a window, into infini_llama/README.md
	$(BIN)/python -m benchmarks.train.recall --write $(BENCH_FLAGS)

.PHONY: bench-passkey
bench-passkey: $(STAMP)  ## passkeys in rows of up to a million bytes, by depth, into infini_llama/README.md
	$(BIN)/python -m benchmarks.train.passkey.run --write $(BENCH_FLAGS)

.PHONY: bench-converted
bench-converted: $(STAMP)  ## perplexity and passkeys of a Llama that is converted and trained on, into infini_llama/README.md
	$(BIN)/python -m benchmarks.train.passkey.converted --write $(BENCH_FLAGS)

.PHONY: gpu-check
gpu-check: $(STAMP)  ## on a machine with a GPU: whether the model holds there, and how fast it is, into benchmarks/README.md
	$(BIN)/python -m benchmarks.gpu.check --write

.PHONY: bench-train-scale
bench-train-scale: $(STAMP)  ## memory and messages of one rank of 8 and of 512, counted without them, into infini_llama/README.md
	$(BIN)/python -m benchmarks.train.scale --write

.PHONY: bench-tokens
bench-tokens: $(STAMP)  ## how fast text becomes tokens, beside the tokenizer alone, into benchmarks/README.md
	$(BIN)/python -m benchmarks.train.tokens --write

.PHONY: train-real-text
train-real-text: $(STAMP)  ## a run killed again and again beside one without memory, into infini_llama/README.md
	$(BIN)/python -m benchmarks.train.real_text --write

.PHONY: bench-launch
bench-launch: $(STAMP)  ## what `bundle run` adds to the start of a program, into benchmarks/README.md
	$(BIN)/python -m benchmarks.launch.run --write
	$(BIN)/python -m benchmarks.launch.connects --write
	$(BIN)/python -m benchmarks.launch.later --write

.PHONY: bench-launch-connects
bench-launch-connects: $(STAMP)  ## of `make bench-launch` what a connect costs, and what a connection carries
	$(BIN)/python -m benchmarks.launch.connects --write

.PHONY: bench-launch-later
bench-launch-later: $(STAMP)  ## of `make bench-launch` what launches after the first cost, and a job of 1,000 of them
	$(BIN)/python -m benchmarks.launch.later --write

.PHONY: bench-home
bench-home: $(STAMP)  ## what work in a home costs, the more is installed in it, into benchmarks/README.md
	$(BIN)/python -m benchmarks.home.run --write
	$(BIN)/python -m benchmarks.home.large --write

.PHONY: bench-home-large
bench-home-large: $(STAMP)  ## of `make bench-home` what 100,000 files cost
	$(BIN)/python -m benchmarks.home.large --write

.PHONY: bench-trust
bench-trust: $(STAMP)  ## what signing and verifying cost beyond doing without, into benchmarks/README.md
	$(BIN)/python -m benchmarks.trust.run --write

.PHONY: bench-differences
bench-differences: $(STAMP)  ## what a fine-tune takes beside its base, and how fast, into benchmarks/README.md
	$(BIN)/python -m benchmarks.fine_tunes.run --write

.PHONY: soak-home
soak-home: $(STAMP)  ## a kill at each step on the file system, a thousand random histories of a home with kills and jobs that read meanwhile, and of damaged ones
	rm -rf benchmarks/soak && mkdir -p benchmarks/soak
	$(BIN)/python -m tests.support.killing benchmarks/soak
	$(BIN)/python -m tests.home.generations.killed_moves benchmarks/soak/moves 1
	$(BIN)/python -m tests.support.histories 0 1000 benchmarks/soak
	$(BIN)/python -m tests.support.damaged_homes 0 1000 benchmarks/soak

FUZZ_STAMP := $(VENV)/.installed-fuzz
# For each target
FUZZ_SECONDS ?= 60
# For instance FUZZ_FLAGS='--write', or the names of targets
FUZZ_FLAGS ?=

$(FUZZ_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

.PHONY: fuzz
fuzz: $(FUZZ_STAMP)  ## coverage-guided fuzzing of all that is read from others, FUZZ_SECONDS for each target
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) $(FUZZ_FLAGS)

.PHONY: test-sanitized
test-sanitized: $(STAMP)  ## tests of the compiled code, built so that it stops at the first byte outside of a buffer
	$(BIN)/python -m tests.format.codec.sanitized

.PHONY: soak-trust
soak-trust: $(STAMP)  ## ten thousand random tamperings of signed bundles, all refused before a byte is visible
	$(BIN)/python -m tests.trust.tamperings 0 10000

.PHONY: soak-parity
soak-parity: $(STAMP)  ## a thousand random losses of a tenth of a bundle, all repaired from parity of a tenth
	$(BIN)/python -m tests.parity.losses 0 1000
.PHONY: soak-bounds
soak-bounds: $(STAMP)  ## what every command takes of files that were made to take much: at most 300 MB and 5 s
	$(BIN)/python -m tests.hostile.commands
	$(BIN)/python -m tests.hostile.texts

.PHONY: bench-fetch
bench-fetch: $(STAMP)  ## fetching beside `hf download` over a line that is slow for each connection, into benchmarks/README.md
	$(BIN)/python -m benchmarks.network.fetch --write $(BENCH_FLAGS)

.PHONY: bench-scale
bench-scale: $(STAMP)  ## simulate one bundle on a thousand nodes, and run one point of it for real, into benchmarks/README.md
	$(BIN)/python -m benchmarks.scale.run --write

.PHONY: network-table
network-table: $(STAMP)  ## count with strace what loads do to the network, into OFFLINE_MODE.md
	$(BIN)/python -m benchmarks.network.table --write

.PHONY: docs
docs: $(STAMP)  ## what follows from the code: pages under docs/, and the JSON Schemas for editors
	$(BIN)/python -m docs.generate

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What a release needs besides: building and checking packages.
RELEASE_STAMP := $(VENV)/.installed-release
# For instance RELEASE_FLAGS=--without-tests
RELEASE_FLAGS ?=

$(RELEASE_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	@touch $@

.PHONY: dist
dist: $(RELEASE_STAMP)  ## the sdist and the wheels of the last commit, into dist/, checked and tried
	$(BIN)/python -m scripts.release dist

.PHONY: release-dry-run
release-dry-run: $(RELEASE_STAMP)  ## all that stands against a release; tags nothing
	$(BIN)/python -m scripts.release dry-run $(RELEASE_FLAGS)

.PHONY: release
release: $(RELEASE_STAMP)  ## check everything, and tag the version if all is well (RELEASE.md)
	$(BIN)/python -m scripts.release tag

format: $(STAMP)  ## rewrite the sources in the style that lint wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment, caches and the demo's files
	rm -rf $(VENV) $(LAUNCHES_VENV) $(BENCH_VENV) $(BENCH_TRAIN_VENV) $(CLIENTS) $(CLIENTS_VENV) $(PROGRAMS_VENV) build dist demo/work benchmarks/work benchmarks/soak *.egg-info bundler/format/codec/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz
