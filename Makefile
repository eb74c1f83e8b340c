PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP = bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEV = .venv-dev/bin

.PHONY: demo test test-slow check format bench docs system clean

demo: .venv-demo/.installed  ## a real photograph and a forged version of it, judged, with an HTML report
	.venv-demo/bin/python examples/demo.py

test: .venv-dev/.installed  ## everything that takes seconds, with coverage
	OMP_NUM_THREADS=1 $(DEV)/python -m pytest -n 2 --cov --cov-report=term:skip-covered

test-slow: .venv-dev/.installed
	$(DEV)/python -m pytest -m slow

check: .venv-dev/.installed
	$(DEV)/ruff check
	$(DEV)/ruff format --check
	$(DEV)/mypy

format: .venv-dev/.installed
	$(DEV)/ruff check --fix
	$(DEV)/ruff format

system:  ## Debian's PostgreSQL and Chromium, for the tests of the service and of the page; asks for root
	test -x /usr/bin/chromium && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium postgresql >/dev/null; }

docs: .venv-dev/.installed  ## the documentation, into site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(DEV)/mkdocs build --strict --quiet

bench: .venv-dev/.installed
	$(DEV)/python benchmarks/mil_loss.py
	$(DEV)/python benchmarks/depthwise.py
	$(DEV)/python benchmarks/detect.py
	$(DEV)/python benchmarks/train_step.py
	$(DEV)/python benchmarks/video.py
	$(DEV)/python benchmarks/serve.py

clean:
	rm -rf .venv-dev .venv-demo

# A stamp file follows the install: it is repeated only when the requirements change.
.venv-dev/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-dev
	.venv-dev/$(PIP) -e ".[train,forge,data,web,cluster,c2pa,heif,paper,docs,demo,dev]"
	touch $@

.venv-demo/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	.venv-demo/$(PIP) -e ".[demo]"
	touch $@
