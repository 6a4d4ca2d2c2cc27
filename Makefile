# Thin names for real commands. `make reproduce` is all a fresh clone needs.

PYTHON ?= python3
CORES ?= all
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: reproduce test lint bench restore clean

reproduce: .venv/.stamp unlock
	snakemake --cores $(CORES)

test: .venv/.stamp
	pytest

lint: .venv/.stamp
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	python workflow/lint.py

# A record of what every stage spends its time on.
bench: .venv/.stamp
	python -m stages.bench

# After `dvc pull`, tell Snakemake that what came is up to date.
restore: .venv/.stamp
	dvc pull
	snakemake --touch --forceall --cores 1 --quiet

clean:
	rm -rf artifacts logs benchmarks .snakemake dvc_plots

.venv/.stamp: requirements.lock pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@

# A killed run leaves Snakemake's lock behind; a live one holds .snakemake/alive.
.PHONY: unlock
unlock:
	@if [ -n "$$(ls -A .snakemake/locks 2>/dev/null)" ]; then flock -n .snakemake/alive snakemake --unlock --quiet; fi
