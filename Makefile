# Thin names for real commands; a fresh clone needs only `make reproduce`.

PYTHON ?= python3
CORES ?= all
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: reproduce test lint snakemake-lint docs bench restore unlock clean

# Runs the study that params/pipeline.yaml names; what is there and up to date is not made again.
reproduce: unlock
	snakemake --cores $(CORES)

test: .venv/.stamp
	pytest

lint: .venv/.stamp
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	$(MAKE) --no-print-directory snakemake-lint

# Snakemake's own linter; jobs share one environment, so none names a conda environment of its own.
snakemake-lint: .venv/.stamp
	! snakemake --lint 2>&1 | grep '^    \* ' | grep -v 'Specify a conda environment'

docs: .venv/.docs ## the pages of docs/ and the reference made from params/ and the docstrings, into site/; no warning passes
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

# What every stage of the finished study spent its time on, how fast Infinity is, and what gradients step by step cost.
bench: .venv/.stamp
	python -m stages.bench
	python -m stages.bench --stepwise sd-shapes
	python -m Infinity.bench --quick

# After a clone: fetch what was made elsewhere, and tell Snakemake that it is up to date.
restore: .venv/.stamp
	dvc pull
	snakemake --touch --forceall --cores 1 --quiet all

# A killed run leaves Snakemake's lock behind, while a living one holds the file .snakemake/alive.
unlock: .venv/.stamp
	@if [ -n "$$(ls -A .snakemake/locks 2>/dev/null)" ]; then \
		flock --nonblock .snakemake/alive snakemake --unlock --quiet all \
		|| { echo "another run is under way in this folder"; exit 1; }; \
	fi

clean:
	rm -rf artifacts logs benchmarks dvc_plots .snakemake

.venv/.stamp: requirements.lock pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --requirement requirements.lock
	@touch $@

.venv/.docs: .venv/.stamp requirements-docs.lock
	.venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --requirement requirements-docs.lock
	@touch $@
