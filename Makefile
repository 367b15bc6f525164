# Two commands: `make sim` and `make test`. Both make the environment (.venv) when it is missing or out of date.
.DEFAULT_GOAL := help
.PHONY: help setup sim test oldest lint bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## create or update .venv: ROS 2, tf2_msgs, PyTorch, this package
	@scripts/setup.sh

sim: setup ## run the simulation, e.g. make sim ARGS="duration:=20 record:=true bag:=b1"
	@.venv/bin/worldfm sim $(ARGS)

test: setup ## run the test-suite in two processes, e.g. make test PYTEST_ARGS="-k geometry -x", or -n0 in one
	.venv/bin/python -m pytest -q -n 2 --dist loadfile $(PYTEST_ARGS)

oldest: setup ## run tests with the oldest versions that setup.py allows
	@scripts/test_oldest.sh $(PYTEST_ARGS)

lint: setup ## check the style
	.venv/bin/ruff check .

bench: setup ## measure the renderer into build/bench_render.json
	@mkdir -p build
	.venv/bin/worldfm bench render --json build/bench_render.json

clean: ## remove what was built, .venv too
	rm -rf .venv build install log *.egg-info .pytest_cache .ruff_cache
