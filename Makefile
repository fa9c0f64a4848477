# The project's tasks. `make` lists them; each sets up .venv first where it needs it.

PYTHON ?= python3
# The checkpoint that `make train` trains on, and the project whose data set it takes.
BASE ?= v1-5-pruned-emaonly.safetensors
DATA ?= demo-out

VENV := .venv
BIN := $(VENV)/bin
# The extras cpu and gpu bring the same Python module: exactly one of them is installed.
RUNTIME := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# PyTorch is large: it is installed by what trains, and by TRAIN=1 for every other target (whose tests it adds to).
TRAIN ?=
READY := $(VENV)/.ready$(if $(TRAIN),-train)
TRAINER := $(VENV)/.ready-train

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-all bench train web docs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  variables: PYTHON=$(PYTHON)  BASE=$(BASE)  DATA=$(DATA)"

setup: $(READY) ## make .venv with the package, the tagger's runtime and the development tools (TRAIN=1: and PyTorch)

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,$(RUNTIME)]"
	@touch $@

$(TRAINER): $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,$(RUNTIME),train]"
	@touch $@

demo: $(READY) demo-out/dsk.toml ## run the quickstart on a copy in demo-out/ and show what it made
	cd demo-out && ../$(BIN)/dsk run dsk.toml
	@echo
	@echo "== what is in demo-out"
	@cd demo-out && for folder in pictures work/* dataset/train/* dataset/reg/* report; do \
	  printf '  %-24s %3d files\n' "$$folder" "$$(find "$$folder" -maxdepth 1 -type f | wc -l)"; done
	@cd demo-out && for caption in $$(ls -d dataset/train/*/*.txt | head -n 3); do \
	  printf '  %s: %s\n' "$$caption" "$$(cat "$$caption")"; done
	@echo
	@cd demo-out && ../$(BIN)/dsk plan-repeats dataset
	@echo "look at demo-out/report/tags.png; take steps back with: cd demo-out && ../$(BIN)/dsk undo"

# dsk.toml is copied last: it stands for a complete copy.
demo-out/dsk.toml: | $(READY)
	mkdir -p demo-out
	cp -R examples/quickstart/pictures examples/quickstart/reg-pictures demo-out/
	cp examples/quickstart/dsk.toml demo-out/dsk.toml

check: $(TRAINER) ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY) ## all tests but the slow ones
	$(BIN)/pytest -n 2 -m "not slow"

test-all: $(READY) ## all tests, the slow ones too
	$(BIN)/pytest -n 2

bench: $(READY) ## measure dsk resize and dsk tag beside plain loops (minutes; see tests/benchmarks)
	$(BIN)/python -m tests.benchmarks

train: $(READY) ## export DATA for sd-scripts and print the command that trains on it with BASE
	@if [ ! -d "$(DATA)/dataset/train" ] && [ "$(DATA)" = demo-out ]; then $(MAKE) demo; fi
	@test -d "$(DATA)/dataset/train" || { echo "$(DATA)/dataset/train does not exist: dsk layout makes it" >&2; exit 2; }
	cd "$(DATA)" && "$(abspath $(BIN))/dsk" export dataset --format kohya
	@echo
	@echo "datasetkit has no trainer of its own in this version. With kohya-ss/sd-scripts installed, this trains:"
	@echo
	@echo "  cd $(abspath $(DATA))/dataset"
	@echo "  accelerate launch SD_SCRIPTS/train_network.py --config_file config.toml --dataset_config dataset.toml \\"
	@echo "    --pretrained_model_name_or_path $(if $(wildcard $(BASE)),$(abspath $(BASE)),$(BASE))"

web: ## the review page (not in this version)
	@echo "the review page is not in this version: captions are text files, edit them with any editor"

docs: $(READY) ## check the links of all pages
	$(BIN)/pytest -q tests/test_docs_links.py

clean: ## remove what the targets made: .venv, demo-out, dist, caches
	rm -rf $(VENV) demo-out build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
