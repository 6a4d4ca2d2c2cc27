# Thin names for real commands; a fresh clone needs only `make reproduce`.

PYTHON ?= python3
CORES ?= all
# processes that share the tests, a file each: as many as this machine has processors
WORKERS ?= logical
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install reproduce test lint snakemake-lint docs bench bundle restore clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

install: .venv/.stamp ## the environment in .venv, with this project in it; nothing is run

reproduce: .venv/.stamp ## the study that params/pipeline.yaml names; what is up to date is not made again
	snakemake --cores $(CORES)

test: .venv/.stamp ## the tests
	pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile

lint: .venv/.stamp ## what a change must pass beside them: formatters, linters, types
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	$(MAKE) --no-print-directory snakemake-lint

snakemake-lint: .venv/.stamp ## Snakemake's own linter; jobs share one environment, so none names its own
	! snakemake --lint 2>&1 | grep '^    \* ' | grep -v 'Specify a conda environment'

docs: .venv/.docs ## the pages of docs/ and the reference made from params/ and the docstrings, into site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

bench: .venv/.stamp ## what the finished study spent its time on, and how fast Infinity is
	python -m stages.bench
	python -m stages.bench --stepwise sd-shapes
	python -m stages.bench --root 2048
	python -m Infinity.bench --quick

bundle: .venv/.stamp ## one zip for a reviewer: docs/results, pinned versions, and the code that checks it
	python -m stages.bundle

restore: .venv/.stamp ## after a clone: fetch what was made elsewhere, and tell Snakemake that it is up to date
	@test -f dvc.lock || { echo "error: this commit has no dvc.lock, so nothing was pushed to restore; make it here: make reproduce" >&2; exit 2; }
	dvc pull
	snakemake --touch --forceall --cores 1 --quiet all

clean: ## remove whatever the workflow made
	rm -rf artifacts logs benchmarks dvc_plots .snakemake

.venv/.stamp: requirements.lock pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.docs: .venv/.stamp requirements-docs.lock
	.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --requirement requirements-docs.lock
	@touch $@
