# The project's tasks. `make` lists them; each sets up .venv first where it needs it.

PYTHON ?= python3
# What `make train` trains on: a .safetensors file, a diffusers folder or a model of the hub (with its commit as
# REVISION; this one is that of the example below). Without BASE it is what dsk.toml in DATA names.
BASE ?=
SD15 := stable-diffusion-v1-5/stable-diffusion-v1-5
REVISION ?= $(if $(filter $(SD15),$(BASE)),451f4fe16113bff5a5d2269ed5ad43b0592e9a14)
# The project, or the laid-out dataset, and the number of GPUs. Without DATA: with BASE the quickstart, else a fox girl
# on the tiny base, which is part of the package.
TINY := tiny-out
DATA ?= $(if $(BASE),demo-out,$(TINY))
GPUS ?= 1

VENV := .venv
BIN := $(VENV)/bin
# The extras cpu and gpu bring the same Python module: exactly one of them is installed.
RUNTIME := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# PyTorch is large: it is installed by what trains, and by TRAIN=1 for every other target (whose tests it adds to).
TRAIN ?=
READY := $(VENV)/.ready$(if $(TRAIN),-train)
TRAINER := $(VENV)/.ready-train
# Of the extra `optimizers`, for the tests; bitsandbytes is large, and peft's import takes seconds longer where it is.
OPTIMIZERS := schedulefree prodigy-plus-schedule-free prodigyopt dadaptation lion-pytorch

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-all bench train web web-check docs clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  variables: PYTHON=$(PYTHON)  BASE=$(BASE)  REVISION=$(REVISION)  DATA=$(DATA)  GPUS=$(GPUS)"

setup: $(READY) ## make .venv with the package, the tagger's runtime and the development tools (TRAIN=1: and PyTorch)

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,$(RUNTIME)]"
	@touch $@

$(TRAINER): $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,$(RUNTIME),train]" $(OPTIMIZERS)
	@touch $@

demo: $(READY) demo-out/dsk.toml ## run the quickstart on a copy in demo-out/ and show what it made
	cd demo-out && ../$(BIN)/dsk run dsk.toml
	@echo
	@echo "== what is in demo-out"
	@cd demo-out && for folder in images work/* dataset/train/* dataset/reg/* report; do \
	  printf '  %-24s %3d files\n' "$$folder" "$$(find "$$folder" -maxdepth 1 -type f | wc -l)"; done
	@cd demo-out && for caption in $$(ls -d dataset/train/*/*.txt | head -n 3); do \
	  printf '  %s: %s\n' "$$caption" "$$(cat "$$caption")"; done
	@echo
	@cd demo-out && ../$(BIN)/dsk plan-repeats dataset
	@echo "look at demo-out/report/tags.png; take steps back with: cd demo-out && ../$(BIN)/dsk undo"

# dsk.toml is copied last: it stands for a complete copy.
demo-out/dsk.toml: | $(READY)
	mkdir -p demo-out
	cp -R examples/quickstart/images examples/quickstart/reg-images demo-out/
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

BASE_RUN := $(if $(BASE),pretrained_model_name_or_path=$(if $(wildcard $(BASE)),$(abspath $(BASE)),$(BASE))) \
  $(if $(REVISION),revision=$(REVISION))

train: $(TRAINER) $(if $(filter demo-out,$(DATA)),demo-out/dataset/config.toml) $(if $(filter $(TINY),$(DATA)),$(TINY)/dataset/reg)
train: ## train a LoRA on DATA with BASE and GPUS (without any: a fox girl on the tiny base, 2 minutes on a CPU)
# Its layers are so small that more threads would only wait for each other.
ifeq ($(DATA)$(BASE)$(GPUS),$(TINY)1)
	OMP_NUM_THREADS=2 $(BIN)/dsk train $(TINY)
	@echo
	@echo "The LoRA is $(TINY)/output/kitsu.safetensors, the plot of its loss $(TINY)/output/kitsu-loss.png, and what it"
	@echo "draws with its trigger and without, epoch by epoch, $(TINY)/output/kitsu-samples.png. For real:"
	@echo "  make train BASE=$(SD15) DATA=my-project GPUS=1"
else ifeq ($(GPUS),1)
	$(BIN)/dsk train "$(DATA)" $(BASE_RUN:%=--set %)
else
# This is `accelerate launch --multi_gpu --num_processes $(GPUS) -m datasetkit.cli.launched ...`, with errors of one line.
	$(BIN)/python -m trainer.launch $(GPUS) "$(DATA)" $(BASE_RUN)
endif

demo-out/dataset/config.toml:
	$(MAKE) demo

# The reg set is laid out last: it stands for a complete dataset.
$(TINY)/dataset/reg: | $(READY)
	mkdir -p $(TINY)
	cp -R examples/tiny-lora/. $(TINY)
	cd $(TINY) && ../$(BIN)/dsk rules faces --trigger kitsu \
	  --exclude "fox ears,orange hair,medium hair,red scarf,sunglasses"
	cd $(TINY) && ../$(BIN)/dsk rules girls --exclude "* hair,sunglasses" --where 'name:girl-0 OR name:girl-1'
	cd $(TINY) && ../$(BIN)/dsk layout 5_kitsu=faces && ../$(BIN)/dsk reg

UI := datasetkit/web/ui

web: ## build the review page's bundle, datasetkit/web/static, from datasetkit/web/ui (needs Node 20)
	npm --prefix $(UI) ci --no-audit --no-fund
	npm --prefix $(UI) run build

web-check: ## check and test the page's modules, and that its bundle is what the source gives, to the byte (needs Node 20)
	npm --prefix $(UI) ci --no-audit --no-fund
	npm --prefix $(UI) run check
	npm --prefix $(UI) test
	npm --prefix $(UI) run build -- --outDir "$(CURDIR)/build/web"
	diff -r build/web datasetkit/web/static

docs: $(READY) ## check the links of all pages
	$(BIN)/pytest -q tests/test_docs_links.py

clean: ## remove what the targets made: .venv, demo-out, dist, caches
	rm -rf $(VENV) demo-out $(TINY) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
