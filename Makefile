PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo demo-unmix demo-kafka kafka kafka-stop test test-all bench docs picture clean

help:
	@echo "make demo        install into .venv and find anomalies in real sensor records"
	@echo "make demo-unmix  mix four recordings, separate them while they stream, write sounds and pictures"
	@echo "make demo-kafka  learn from a real Kafka topic, be killed, go on (needs Java 17 and Maven)"
	@echo "make kafka       start a real Kafka broker on 127.0.0.1:9092; make kafka-stop ends it"
	@echo "make test        install into .venv and run every check that is not slow"
	@echo "make test-all    the same with the slow tests"
	@echo "make bench       compare with other packages"
	@echo "make docs        build the documentation, with its examples run, into docs/_build/html"
	@echo "make picture     draw the picture of the README anew"
	@echo "make clean       remove .venv and caches"

demo: .venv/installed
	@$(BIN)/stream-em demo

demo-unmix: .venv/installed
	@$(BIN)/stream-em demo unmix

demo-kafka: .venv/installed-kafka
	@deploy/kafka/broker with $(BIN)/python deploy/kafka/demo.py

kafka:
	@deploy/kafka/broker start

kafka-stop:
	@deploy/kafka/broker stop

test: .venv/installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check -m "not slow"

test-all: .venv/installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

bench: .venv/installed-dev
	@$(BIN)/python -m benchmarks

docs: .venv/installed-dev
	@echo "building the documentation and running its examples (a minute)"
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/docs
	@echo "open docs/_build/html/index.html"

picture: .venv/installed-dev
	@$(PIP) --constraint constraints.txt --group picture
	@$(BIN)/python docs/picture.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist docs/_build docs/_tables docs/gallery

.venv/pip: constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "make: $(PYTHON) is not there; name a Python: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: stream_em needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into .venv (once, about a minute)"
	@"$(PYTHON)" -m venv .venv
	@$(PIP) --constraint constraints.txt pip
	@touch $@

.venv/installed: .venv/pip pyproject.toml
	@$(PIP) --constraint constraints.txt --build-constraint constraints.txt --editable ".[report,audio]"
	@touch $@

.venv/installed-dev: .venv/installed
	@$(PIP) --constraint constraints.txt --build-constraint constraints.txt --editable ".[report,audio,edf,kafka,confluent]"
	@$(PIP) --constraint constraints.txt --group dev
	@touch $@

.venv/installed-kafka: .venv/installed
	@$(PIP) --constraint constraints.txt --build-constraint constraints.txt --editable ".[report,audio,kafka]"
	@touch $@
