# Python of the virtual environment that is made, and its folder: the active environment, else .venv.
PYTHON ?= python3
VENV ?= $(or $(VIRTUAL_ENV),.venv)
RUN = $(VENV)/bin/python

.PHONY: help setup table test test-slow benchmark lint

help:
	@echo "make table      a small benchmark from nothing: collect PointMaze data, train ERDP and behaviour cloning"
	@echo "                (3 mazes, 2 methods, 3 seeds), write the table and its figures"
	@echo "make test       the tests that take minutes at most"
	@echo "make test-slow  the long tests, and those that kill processes"
	@echo "make benchmark  steps, where their time goes, and evaluations, beside the published structure"
	@echo "make lint       ruff and mypy"
	@echo "make setup      only install, into $(VENV) (the others do it themselves)"
	@echo
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV). A PyTorch that is in the environment already is kept."
	@echo "README.md shows tables, data, MLflow and films."

setup:
	@.ci/setup "$(VENV)" "$(PYTHON)"

table: setup
	"$(RUN)" -m erdp_core.data collect pointmaze-umaze pointmaze-medium pointmaze-large
	"$(RUN)" orchestration/run_table.py --table pointmaze --profile quick --methods erdp,bc-diffusion --seeds 3

test: setup
	"$(RUN)" -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true

test-slow: setup
	"$(RUN)" -m pytest -m "slow or faults"

benchmark: setup
	"$(RUN)" -m tests.benchmarks.step
	"$(RUN)" -m tests.benchmarks.breakdown
	"$(RUN)" -m tests.benchmarks.evaluation

lint: setup
	"$(RUN)" -m ruff check .
	"$(RUN)" -m ruff format --check .
	"$(RUN)" -m mypy
