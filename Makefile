# Needs only python3 (>= 3.10) and make.   make help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.DEFAULT_GOAL := help
# small tensors gain nothing from two threads, and waiting threads steal the other core
export OMP_NUM_THREADS ?= 1
# a worker for each core; the tests of a file stay together, since they share what they trained; files in their order,
# not the largest first: the longest, those of clusters, have few tests and would be left for the end, on one core
SPREAD ?= -n auto --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test lint quick nightly kernels mutants faults bench docs dist audit release-check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: $(STAMP) ## virtual environment in .venv with scaleinv and everything its tests need
	@echo "ready: $(BIN)/scaleinv"

$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (torch and friends: a minute or two, more on a slow network)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "python3 is older than 3.10; run: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# timm asks for torchvision, whose build on PyPI does not fit every torch; its models do without (src/scaleinv/plugins.py)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps timm
	@touch $@

# the answer in three minutes: dense where regime 2 lies, four decades in all
DEMO_ELR := 1e-4,3e-4,1e-3,2e-3,4e-3,6e-3,8e-3,1e-2,1.3e-2,1.7e-2,2.2e-2,3e-2,4e-2,6e-2,1e-1,2e-1,4e-1,1

demo: $(STAMP) ## the three regimes on scikit-learn's digits, with a report (under 3 minutes on 2 cores)
	@$(BIN)/scaleinv sweep --data digits --model convnet --elr $(DEMO_ELR) --epochs 60 --out runs/demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

quick: $(STAMP) ## the tests that take seconds
	$(BIN)/python -m pytest -q $(SPREAD) -m "not slow and not nightly"

# each part runs even if one before it fails, and the target then fails
test: lint ## everything CI runs
	@status=0; set -x; \
	$(BIN)/python -m pytest -q $(SPREAD) -m "not nightly" || status=1; \
	$(BIN)/scaleinv verify --scale toy || status=1; \
	$(BIN)/python benchmarks/kernels.py --numerics || status=1; \
	exit $$status

nightly: $(STAMP) ## all tests, the claims that take long, and make kernels
	@status=0; set -x; \
	$(BIN)/python -m pytest -q $(SPREAD) || status=1; \
	$(BIN)/scaleinv verify || status=1; \
	$(BIN)/scaleinv verify --scale digits || status=1; \
	$(MAKE) kernels || status=1; \
	$(MAKE) release-check || status=1; \
	exit $$status

kernels: $(STAMP) ## all tests and the toy claims as other processors compute them: six settings (two hours)
	$(BIN)/python benchmarks/kernels.py

mutants: $(STAMP) ## change a constant in each formula and list which test or claim notices (20 minutes)
	$(BIN)/python benchmarks/mutate_theory.py

faults: $(STAMP) ## damaged files, full disks, kills, odd command lines: how many were lost or silent (20 minutes or more)
	$(BIN)/python benchmarks/faults.py

bench: $(STAMP) ## speed, as ratios in one run
	$(BIN)/python benchmarks/run.py

docs: $(STAMP) ## the documentation as a site in site/, built strictly: open site/index.html (half a minute)
	$(BIN)/python docs/build.py

dist: $(STAMP) ## wheel and source distribution in dist/, with checksums and the list of what they were tested with
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/cyclonedx-py requirements constraints.txt --pyproject pyproject.toml --output-reproducible --output-format JSON -o dist/scaleinv.cdx.json
	cd dist && $(abspath $(BIN))/python -c 'import hashlib, pathlib; [print(hashlib.sha256(p.read_bytes()).hexdigest(), "", p) for p in sorted(pathlib.Path().iterdir())]' > ../build-sums && mv ../build-sums SHA256SUMS

audit: $(STAMP) ## known holes of the versions in constraints.txt, and which could not be asked about (asks pypi.org)
	$(BIN)/python benchmarks/audit.py

# what a user gets who installs the wheel with [cli]: the doctor works, and no plots, no training come along
release-check: dist ## is this fit for release: twine check, the wheel in a fresh environment, the doctor (2 minutes)
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	cd dist && sha256sum --check --quiet SHA256SUMS
	rm -rf build/release && $(BIN)/python -m venv build/release
	build/release/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(ls dist/*.whl)[cli]"
	cd build/release && env -u PYTHONPATH bin/scaleinv doctor $(CURDIR)/tests/project/net.py:make --input 8,3,16,16
	cd build/release && env -u PYTHONPATH bin/scaleinv demo > /dev/null
	cd build/release && env -u PYTHONPATH bin/python -c 'import importlib.util as u; assert not any(map(u.find_spec, ("matplotlib", "pyarrow", "sklearn")))'
	@echo "fit for release: $$(cd dist && ls | tr '\n' ' ')"

clean: ## remove what make made (not runs/)
	rm -rf $(VENV) dist build site .pytest_cache .mypy_cache .ruff_cache
