# Everything starts from nothing: `make demo` and `make test` make .venv first when it is missing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# The library asks for ranges; these are the releases everything here was measured with.
PINS := torch==2.14.1 torchvision==0.29.1 compressai==1.2.8

.PHONY: demo test lint kaitai bench campaign coverage fuzz vectors clean

demo: $(VENV)/installed
	$(BIN)/robuststream demo

test: $(VENV)/installed-dev lint kaitai
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n auto --dist loadfile

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every line and branch of what reads untrusted bytes. The tests run the compiled kernels as plain Python, too.
coverage: $(VENV)/installed-dev
	$(BIN)/coverage run -m pytest tests/container tests/entropy tests/transfers
	$(BIN)/coverage report

# The compiler of spec/robuststream.ksy, for its test, which is skipped without it.
kaitai: $(VENV)/installed-dev
	-@test -d $(VENV)/kaitai/node_modules/kaitai-struct-compiler || ! command -v npm >/dev/null || \
		timeout 120 npm install --silent --no-audit --no-fund --prefix $(VENV)/kaitai kaitai-struct-compiler@0.11 js-yaml@5

# The figures of the README and of the issue notes; wants a quiet machine.
bench: $(VENV)/installed-dev
	$(BIN)/python tools/benchmark.py all

# Random damage, seeded; some hours. `tools/campaign.py NAME` runs one of its parts.
JOBS ?= 1
campaign: $(VENV)/installed-dev
	$(BIN)/python -W ignore tools/campaign.py all --jobs $(JOBS)

# Coverage-guided, 10^7 executions; more than an hour. `make fuzz FUZZ="words --seconds 60"`: one target, for a minute.
FUZZ ?=
fuzz: $(VENV)/installed-dev
	$(BIN)/python -W ignore tools/fuzz $(FUZZ)

# Wants a look at what git says has changed: streams of a release stay as they are.
vectors: $(VENV)/installed-dev
	$(BIN)/python tools/make_vectors.py

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PINS)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
