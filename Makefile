# One command does it all: `make demo` and `make test` need Python 3.11 to 3.13, make, and pip's registry.
#
#   make demo DEMO_ARGS="--headless --duration 60"
#   make test PYTEST_ARGS="-k conservation"   (JOBS=1 for one test at a time)
#   make fuzz                      looks for inputs that break something (FUZZ_SECONDS=60 in all)
#   make check                     what CI runs beside the tests: lint, types, architecture
#   make PYTHON=python3.12 test    with another Python (`make clean` first)
#   make gpu                       on a machine with an NVIDIA GPU: its tests and benches, within 12 minutes (docs/gpu.md)
#   make audit                     known vulnerabilities in what is pinned; says what could not be asked about
#   make sbom                      sbom.json: what is installed here, as CycloneDX
#   make fresh                     runs README's commands as printed in a fresh clone, with an empty home
#   make docs                      writes docs/reference and docs/architecture.svg anew
#   make up, make down             the containers of docker-compose.yml, on CPUs
#   make observe                   those, with Prometheus and Grafana
#   make clean                     removes all that it made here

VENV := .venv
BIN := $(VENV)/bin

# The first Python that fits, the default one first.
PYTHON ?= $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,$(shell \
	command -v $(python) >/dev/null 2>&1 && $(python) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $(python))))

DEMO_ARGS ?=
PYTEST_ARGS ?=
FRESH_ARGS ?=
GPU_ARGS ?=

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=

# Test processes, each with servers of its own: integration tests wait more than they compute.
JOBS ?= 2

.PHONY: help demo test docs fuzz gpu lint types check fresh audit sbom up observe down clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.demo
	$(BIN)/reviewpulse demo $(DEMO_ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal --cov --cov-report=term $(PYTEST_ARGS)

# The reference and the picture of the architecture, from the code.
docs: $(VENV)/.dev
	$(BIN)/python docs/reference/make.py

# Guided by coverage where atheris has a wheel, blind elsewhere.
fuzz: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -c constraints.txt --group fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m tests.fuzz $(FUZZ_TARGETS)

# With CUDA's libraries. On a machine that can reach no registry: python -m export.bench.gpu_session
gpu: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[local,train,gpu]' --group dev
	$(BIN)/python -m export.bench.gpu_session $(GPU_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types

# Asks an advisory service over the network, hence no part of CI.
audit: $(VENV)/.dev
	$(BIN)/python deploy/audit.py

sbom: $(VENV)/.dev
	$(BIN)/python deploy/sbom.py --out sbom.json

# Of what is committed; it needs nothing that is installed here. FRESH_ARGS=--help
fresh:
	$(PYTHON) deploy/fresh_check.py $(FRESH_ARGS)

# A stamp newer than what it was made from: nothing is installed twice. Everything the development set-up
# has includes what the demo needs.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[local]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[local,train]' --group dev
	@touch $@ $(VENV)/.demo

# Python 3.11's own pip is too old for `--group`.
$(VENV)/.pip:
	@test -n "$(PYTHON)" || { echo "Reviewpulse needs Python 3.11, 3.12 or 3.13: install one, or name it with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "$(PYTHON) has no ensurepip: install it (Debian: apt-get install python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

# The containers of docker-compose.yml, on CPUs.
SECRETS := deploy/secrets/reviewpulse_redis_password deploy/secrets/reviewpulse_web_tokens deploy/secrets/grafana_admin_password

up: $(SECRETS)
	docker compose --profile cpu up --build --detach

observe: $(SECRETS)
	docker compose --profile cpu --profile observe up --build --detach

down:
	docker compose --profile cpu --profile gpu --profile notify --profile observe down

# Others may not enter the folder; the files themselves are readable, for containers mount them for users of theirs.
RANDOM := od -An -N32 -tx1 /dev/urandom | tr -d ' \n'

deploy/secrets/reviewpulse_redis_password deploy/secrets/grafana_admin_password:
	mkdir -p -m 700 deploy/secrets
	$(RANDOM) > $@
	chmod 444 $@

deploy/secrets/reviewpulse_web_tokens:
	mkdir -p -m 700 deploy/secrets
	echo "operator:read+ingest+operate:$$($(RANDOM))" > $@
	chmod 444 $@

clean:
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find stream models export tests -type d -name __pycache__ -prune -exec rm -rf {} +
