# make train | test | check: each sets up .venv first, from the pinned constraints.txt.
# make docs: the documentation site in site/, without a warning or a dead link.
# make release-check: build, check metadata, install and run on the lowest and newest Python that are on the path.
# make check-lowest: tests with the lowest versions that pyproject.toml declares, in .venv-lowest; PYTHON up to 3.12.
PYTHON ?= python3
EXTRAS ?= dev
VENV := .venv
LOWEST := .venv-lowest
BIN := $(VENV)/bin
COMMA := ,
# A stamp for each set of extras: another set is installed besides those that are there.
READY := $(VENV)/.installed-$(subst $() ,+,$(sort $(subst $(COMMA), ,$(EXTRAS))))

.PHONY: install train test docs site check check-lowest release-check format hooks clean

install: $(READY)

train: $(READY)
	$(BIN)/python scripts/train_agent.py --demos oracle

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_FLAGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
		$(MAKE) test PYTEST_FLAGS="--cov --cov-report=term:skip-covered"

docs:
	$(MAKE) --no-print-directory site EXTRAS=docs

site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

release-check:
	$(MAKE) --no-print-directory install EXTRAS=release
	$(BIN)/python .ci/release_check.py

# Old packages warn of new Pythons and of each other: warnings are no errors here.
check-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n 2 --dist loadfile -W default $(PYTEST_FLAGS)

$(LOWEST)/.installed: pyproject.toml .ci/lowest.py
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --upgrade pip
	$(LOWEST)/bin/pip install --quiet --no-deps --editable .
	$(LOWEST)/bin/python .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install --constraint $(LOWEST)/constraints.txt --editable '.[benchmark,human,pretrained,saliency]' \
		hypothesis pytest pytest-xdist
	touch $@

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

hooks: $(READY)
	$(BIN)/pre-commit install

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build dist site *.egg-info
