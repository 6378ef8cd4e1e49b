# The commands of this repository. Each sets up what it needs first; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-tests run build test test-long lint bench docker dry-run

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:
	@scripts/setup.sh

setup-tests:
	@scripts/setup.sh --tests

run: setup ## run the processor on its built-in generator: no server needed, pages on http://127.0.0.1:8080/
	@scripts/cargo.sh run --bin processor -- --config config/processor-dev.yaml

build: setup ## build ./target/release/processor
	@scripts/release.sh

test: setup-tests ## all tests, with a real Apache Kafka and a server that speaks S3 (fetched through Maven once)
	@scripts/test.sh

test-long: setup-tests ## all tests, the randomized ones with many more cases
	@LONG_TESTS=1 scripts/test.sh

lint: setup ## formatting, clippy with warnings as errors, licences and advisories of the dependencies, the steps of the image
	@scripts/lint.sh

bench: setup-tests ## measure against the floors; a table at the end (ONLY=kafka: these lines alone)
	@scripts/cargo.sh bench --bench table -- $(ONLY)

docker: ## build the image llm-optimizer-processor:latest
	docker build --tag llm-optimizer-processor:latest .

dry-run: setup ## take the steps of the image's last stage without Docker, and run the result (root, debootstrap, a built binary)
	@scripts/docker-dry-run.sh
