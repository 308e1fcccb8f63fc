# make setup | demo | test | lint | docs | coverage | bench. Needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= runs/demo

.PHONY: setup demo test lint docs coverage bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
# What is installed is compiled on every core, which pip does on one; files that no Python can read are no fault.
# So is the program, which would be compiled anew at every start where PYTHONDONTWRITEBYTECODE is set.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[imagenet-offline,umap,hub,wds,notebook,export,dev]'
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib cli.py commands experiments glom probes > /dev/null || true
	@touch $@

demo: setup
	$(BIN)/apm demo --out $(OUT)

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/apm docs --check

# The site, in build/site. Its tools are installed when it is first asked for; the build itself makes no request.
$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

coverage: setup
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover

bench: setup
	$(BIN)/apm bench all --out benchmarks/results

clean:
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage*
