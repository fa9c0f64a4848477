# The project's tasks. `make` lists them; each sets up .venv first if it needs it.

PYTHON ?= python3
# The base model of `make train`: a .safetensors file, a diffusers folder or a model of the hub (with its commit as
# REVISION; the default is that of the example below). Without BASE, dsk.toml in DATA names it.
BASE ?=
SD15 := stable-diffusion-v1-5/stable-diffusion-v1-5
REVISION ?= $(if $(filter $(SD15),$(BASE)),451f4fe16113bff5a5d2269ed5ad43b0592e9a14)
# DATA is the project or the laid-out dataset, GPUS the number of GPUs. The default of DATA is the quickstart with BASE,
# else a fox girl on the tiny base, which ships with the package.
TINY := tiny-out
DATA ?= $(if $(BASE),demo-out,$(TINY))
GPUS ?= 1
# A family of transformers, such as anima: `make train` then trains a small base of it with random weights, in a minute,
# to see the path. The settings are those of examples/families/FAMILY, the images those of the fox girl.
FAMILY ?=
FAMILY_OUT = tiny-out/families/$(FAMILY)

VENV := .venv
BIN := $(VENV)/bin
# The extras cpu and gpu bring the same Python module: exactly one of them is installed.
RUNTIME := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# PyTorch is large: it is installed for training, and for the other targets (and their trainer tests) with TRAIN=1.
TRAIN ?=
READY := $(VENV)/.ready$(if $(TRAIN),-train)
TRAINER := $(VENV)/.ready-train
# From the extra `optimizers`, for the tests. Without bitsandbytes: it is large, and makes peft's import seconds longer.
OPTIMIZERS := schedulefree prodigy-plus-schedule-free prodigyopt dadaptation lion-pytorch

RAY_TESTS := tests/executors/test_ray_cluster.py
# Tests write and sync thousands of small files, which costs nothing in memory, where Linux has some GB of it for files;
# and they wait for processes and clocks, so that two cores have time for three of them.
MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4e6 {print "/dev/shm"}')
in_memory = $(if $(MEMORY),tmp=$$(mktemp -d $(MEMORY)/dsk.XXXXXX) && chmod 755 "$$tmp" && trap 'rm -rf "$$tmp"' EXIT INT TERM && TMPDIR=$$tmp)
pytest = $(in_memory) $(BIN)/pytest -n 3 $(1)
# Tests start hundreds of processes: without the bytecode that the first one keeps, each compiles dsk again. Images of
# containers often set this.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-long test-ray test-all bench train web web-check screenshots docs release clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  variables: PYTHON=$(PYTHON)  BASE=$(BASE)  REVISION=$(REVISION)  DATA=$(DATA)  GPUS=$(GPUS)"

setup: $(READY) ## make .venv with the package, the tagger's runtime and the development tools (TRAIN=1: also PyTorch)

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,$(RUNTIME)]"
	@touch $@

$(TRAINER): $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,$(RUNTIME),train,ray]" $(OPTIMIZERS)
	@touch $@

demo: $(READY) demo-out/dsk.toml ## run the quickstart on a copy in demo-out/ and show the result
	cd demo-out && ../$(BIN)/dsk run dsk.toml
	@echo
	@echo "== what is in demo-out"
	@cd demo-out && for folder in images work/* dataset/train/* dataset/reg/* report; do \
	  printf '  %-24s %3d files\n' "$$folder" "$$(find "$$folder" -maxdepth 1 -type f | wc -l)"; done
	@cd demo-out && for caption in $$(ls -d dataset/train/*/*.txt | head -n 3); do \
	  printf '  %s: %s\n' "$$caption" "$$(cat "$$caption")"; done
	@echo
	@cd demo-out && ../$(BIN)/dsk plan-repeats dataset
	@echo "see demo-out/report/tags.png; undo steps with: cd demo-out && ../$(BIN)/dsk undo"

# dsk.toml is copied last: if it exists, the copy is complete.
demo-out/dsk.toml: | $(READY)
	mkdir -p demo-out
	cp -R examples/quickstart/images examples/quickstart/reg-images demo-out/
	cp examples/quickstart/dsk.toml demo-out/dsk.toml

check: $(TRAINER) ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY) ## run all tests except the long and slow ones
	@$(call pytest,-m "not slow and not long")

test-long: $(READY) ## run the long tests but those of Ray
	@$(call pytest,-q -m "long and not slow" --ignore $(RAY_TESTS))

test-ray: $(READY) ## run the long tests of Ray, one after the other: each starts a cluster
	$(BIN)/pytest -q -m "long and not slow" $(RAY_TESTS)

test-all: $(READY) ## run all tests, including the slow ones
	@$(call pytest,)

bench: $(READY) ## compare the speed of dsk with plain loops (hours; see docs/performance.md)
	$(BIN)/python -m tests.benchmarks

BASE_RUN := $(if $(BASE),pretrained_model_name_or_path=$(if $(wildcard $(BASE)),$(abspath $(BASE)),$(BASE))) \
  $(if $(REVISION),revision=$(REVISION))

train: $(TRAINER) $(if $(filter demo-out,$(DATA)),demo-out/dataset/config.toml) $(if $(filter $(TINY),$(DATA)),$(TINY)/dataset/reg)
train: ## train a LoRA on DATA with BASE and GPUS (default: a fox girl on the tiny base, some minutes on a CPU)
# The tiny base's layers are so small that more threads would only wait for each other.
ifneq ($(FAMILY),)
	$(BIN)/python -m trainer.random_base --family $(FAMILY) $(FAMILY_OUT)/base
	cp -R $(TINY)/dataset examples/families/$(FAMILY)/dsk.toml $(FAMILY_OUT)
	OMP_NUM_THREADS=1 $(BIN)/dsk train $(FAMILY_OUT) --set pretrained_model_name_or_path=$(abspath $(FAMILY_OUT)/base) \
	  --set resolution=64 --set max_train_steps=20 --set mixed_precision=no
	@echo
	@echo "The base was random, so the LoRA in $(FAMILY_OUT)/output generates no usable images: it shows that data, trainer and"
	@echo "file work together. docs/families.md says which base to train on; its settings are $(FAMILY_OUT)/dsk.toml."
else ifeq ($(DATA)$(BASE)$(GPUS),$(TINY)1)
	OMP_NUM_THREADS=1 $(BIN)/dsk train $(TINY)
	@echo
	@echo "The LoRA is $(TINY)/output/kitsu.safetensors, the plot of its loss $(TINY)/output/kitsu-loss.png. Preview images"
	@echo "with its trigger and without, epoch by epoch, are in $(TINY)/output/kitsu-samples.png. To train a real one:"
	@echo "  make train BASE=$(SD15) DATA=my-project GPUS=1"
else ifeq ($(GPUS),1)
	$(BIN)/dsk train "$(DATA)" $(BASE_RUN:%=--set %)
else
# Runs `accelerate launch --multi_gpu --num_processes $(GPUS) -m datasetkit.cli.launched ...`, and prints errors on one line.
	$(BIN)/python -m trainer.launch $(GPUS) "$(DATA)" $(BASE_RUN)
endif

demo-out/dataset/config.toml:
	$(MAKE) demo

# The reg set is laid out last: if it exists, the dataset is complete.
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

web-check: ## check and test the page's modules; rebuild its bundle and compare it byte by byte (needs Node 20)
	npm --prefix $(UI) ci --no-audit --no-fund
	npm --prefix $(UI) run check
	npm --prefix $(UI) test
	npm --prefix $(UI) run build -- --outDir "$(CURDIR)/build/web"
	diff -r build/web datasetkit/web/static

screenshots: $(TRAINER) ## make the images of the docs again (needs Chromium; some minutes)
	$(BIN)/python -m datasetkit.tools.screenshots

docs: $(READY) ## check the links of all pages
	$(BIN)/pytest -q tests/test_docs_links.py

release: $(READY) ## build sdist and wheel into dist/, check them, write the notes; nothing is uploaded
	$(BIN)/python -m datasetkit.tools.release

clean: ## remove .venv, demo-out, dist and caches
	rm -rf $(VENV) demo-out $(TINY) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
