# setup: the environment in .venv; demo: the main job on simulated data; test: everything that CI runs; bench: figures.
PYTHON ?= python3
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
# Threads that wait asleep: spinning ones take the core from whoever they wait for, ten times slower on a busy machine.
export OMP_WAIT_POLICY ?= passive

.PHONY: setup demo test bench clean

setup: .venv/.ready

# Made anew only when what is to be installed has changed.
.venv/.ready: pyproject.toml constraints.txt setup.sh
	PYTHON=$(PYTHON) sh setup.sh

demo: setup
	$(BIN)/python recipes/day_to_night.py --out runs/demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q

bench: setup
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/generation.py

clean:
	rm -rf .venv build *.egg-info .pytest_cache .hypothesis
