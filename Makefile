# All commands run in .venv. `make` creates it if it is missing, and updates it when pyproject.toml, constraints.txt or
# this file has changed. Settings: PYTHON (3.11 or newer), IMAGES (folder for the demo), ARGS (for pytest; "-n 0" runs
# the tests in one process instead of two).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKED := Makefile pyproject.toml constraints.txt deploy/demo/install.py deploy/demo/torchvision_ops.py
export IMAGES

.DEFAULT_GOAL := help
.PHONY: help install demo review test chaos check bench detector images lock clean

help:
	@echo "make demo [IMAGES=folder]   judge the folder's images, or some drawings, on this machine"
	@echo "make review [IMAGES=folder] the same, and then the review desk in your browser, until Ctrl-C"
	@echo "make test [ARGS=...]        run the tests"
	@echo "make chaos [ARGS='--seed 2']   cause faults on real services and check what is lost; takes under 30 minutes"
	@echo "make check                  lint, formatting, types and the direction of imports"
	@echo "make bench [ARGS='--only NAME']   compare our speed with that of references; takes about an hour"
	@echo "make detector               train the demo detector from the beginning, into build/detector/demo"
	@echo "make images [ARGS=demo]     build the container images (deploy/images/README.md)"
	@echo "make install                make .venv with everything for development"
	@echo "make lock                   write the versions installed in .venv to constraints.txt, and the images' to deploy/images"
	@echo "make clean                  remove .venv, build/ and caches"

install: $(VENV)/installed-test

demo: $(VENV)/installed-demo
	@$(BIN)/python -m deploy.demo.run "$$IMAGES"

review: $(VENV)/installed-demo
	@$(BIN)/python -m deploy.demo.review "$$IMAGES"

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

# Faults for 23 minutes, then 20,000 damaged image files.
chaos: $(VENV)/installed-test
	$(BIN)/python -m tests.chaos.run --minutes 23 --fuzz 20000 --report build/chaos/report.json $(ARGS)

check: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks $(ARGS)

# Drawings, random weights, training, evaluation on drawings of another seed: under an hour on two quiet cores. After an
# interruption, the same command continues.
DETECTOR := build/detector
detector: export FAKESWEEP_GPU_MEMORY_UTILIZATION = 0.2
detector: export VLLM_CPU_KVCACHE_SPACE = 1
detector: $(VENV)/installed-test $(DETECTOR)/train/records.json $(DETECTOR)/held-out/records.json
	$(BIN)/python -m deploy.demo.checkpoint $(DETECTOR)/base --seed 0
	$(BIN)/fakesweep train $(DETECTOR)/train/records.json --detector $(DETECTOR)/base --recipe deploy/demo/recipe.toml \
	  --seed 0 --name demo --output $(DETECTOR)/demo --evaluate $(DETECTOR)/held-out/records.json
	$(BIN)/python deploy/demo/measure.py $(DETECTOR)/held-out/records.json $(DETECTOR)/demo/evaluation

$(DETECTOR)/train/records.json: | $(VENV)/installed-test
	$(BIN)/python deploy/demo/draw.py $(@D) --count 8000 --seed 1

$(DETECTOR)/held-out/records.json: | $(VENV)/installed-test
	$(BIN)/python deploy/demo/draw.py $(@D) --count 1200 --seed 2

images:
	deploy/images/build.sh $(ARGS)

lock: $(VENV)/installed-test
	$(BIN)/python -m pip freeze --all --exclude-editable > $(VENV)/frozen
	@echo "# The versions that make demo and make test install; written by make lock." > constraints.txt
	sed -E '/^(pip==|nvidia-|cuda-)/d; / @ /d; s/\+[a-z0-9.]+$$//' $(VENV)/frozen | LC_ALL=C sort -f >> constraints.txt
	$(BIN)/python -m deploy.images.lock
	@touch $(VENV)/installed-demo $(VENV)/installed-test

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Fakesweep needs Python 3.11 or newer, and $(PYTHON) is not: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/installed-demo: $(LOCKED) | $(BIN)/python
	$(BIN)/python deploy/demo/install.py cpu,embedded,web,provenance
	@touch $@

$(VENV)/installed-test: $(LOCKED) | $(BIN)/python
	$(BIN)/python deploy/demo/install.py cpu,embedded,web,near,provenance,audit,webhooks,dev,evaluate,train,annotate
	@touch $@ $(VENV)/installed-demo
