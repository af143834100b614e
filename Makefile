# Every target makes the environment it needs in .venv and uses it again; `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/sentiment.toml
TARGET ?= cpu
ARGS ?=
PORT ?= 3000
space := $(subst ,, )
ENV := $(subst $(space),\$(space),$(VENV))# as the name of a target

.DEFAULT_GOAL := help
.PHONY: help compress-and-export serve bench optimum test lint docs clean distclean

help: ## show this list
	@echo "usage: make TARGET [RECIPE=recipes/sentiment.toml] [ARGS='--set compress.epochs=3']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

compress-and-export: $(ENV)/.train ## labelled texts + BERT → student → checked INT8 bundle (skips what is up to date)
	"$(BIN)/python" -m compress run "$(RECIPE)" $(ARGS)
	"$(BIN)/python" -m export "$(RECIPE)" --target $(TARGET) $(ARGS)

serve: $(ENV)/.train ## serve the newest bundle on :3000
	"$(BIN)/python" -m serve --port $(PORT)

bench: $(ENV)/.train ## latency, throughput and accuracy against the uncompressed BERT
	"$(BIN)/python" -m bench compare "$(RECIPE)" $(ARGS)

# Optimum's exporter needs transformers before 4.58. Torch, ONNX and all else are those of the main environment.
optimum: $(ENV)/.train ## .venv-optimum, for bench ARGS='--optimum .venv-optimum/bin/python'
	"$(BIN)/python" -m venv .venv-optimum
	.venv-optimum/bin/python -m pip install --quiet --disable-pip-version-check --no-deps optimum-onnx==0.1.0 optimum==2.1.0 \
		transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.2
	"$(BIN)/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$(.venv-optimum/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main_environment.pth"

test: $(ENV)/.dev ## run the test suite, a file to a core
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(ENV)/.dev ## style, format, types and the order of the rooms
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

docs: $(ENV)/.docs ## the documents as a site in build/site; fails on a broken link
	"$(BIN)/python" docs/draw_results.py
	"$(BIN)/python" docs/draw_costs.py
	"$(BIN)/python" docs/draw_compared.py
	"$(BIN)/python" docs/write_recipe_reference.py
	NO_MKDOCS_2_WARNING=1 "$(BIN)/python" -m mkdocs build --strict --quiet

clean: ## remove results and caches, keep the environment
	rm -rf artifacts build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf "$(VENV)" .venv-optimum

$(ENV)/bin/python:
	"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed; call make PYTHON=python3.11")'
	"$(PYTHON)" -m venv "$(VENV)"

$(ENV)/.train: pyproject.toml constraints.txt | $(ENV)/bin/python
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,cpu]'
	touch "$(VENV)/.train"

$(ENV)/.dev: pyproject.toml constraints.txt | $(ENV)/bin/python
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,cpu,rtx,otel,dev]'
	touch "$(VENV)/.dev" "$(VENV)/.train"

$(ENV)/.docs: pyproject.toml constraints.txt | $(ENV)/bin/python
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch "$(VENV)/.docs"
