# The newcomer's commands: `make train` and `make test`. Everything lands in .venv.

PYTHON   ?= python3
VENV     ?= .venv
REPLICAS ?= 2
MPI      ?= mpich
BIN      := $(VENV)/bin
# Seconds that one run under an MPI launcher may take, where a hang would last for ever. What runs in one process has no
# limit of its own: each of its tests has one, and so has every launch that they make.
LIMIT    ?= 800
# Bytecode and compiled kernels are kept, so that the hundreds of processes that tests start need not make them anew.
TESTING  := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.PHONY: train test test-1 test-launches test-single test-2 test-4 check bench chaos clean

train: $(VENV)/.examples
	$(BIN)/distoptrun -n $(REPLICAS) examples/digits.py

test: test-1 test-2 test-4

# Side by side, for two cores: jobs, one after the other, which often wait; and all that runs in this one process.
test-1: $(VENV)/.test
	$(MAKE) --jobs=2 test-launches test-single

test-launches: $(VENV)/.test
	$(TESTING) $(BIN)/python -m pytest -m launches tests

test-single: $(VENV)/.test
	$(TESTING) $(BIN)/python -m pytest -m "not launches" tests

test-2 test-4: test-%: $(VENV)/.test
	$(TESTING) timeout --kill-after=10 $(LIMIT) $(BIN)/mpiexec -n $* $(BIN)/python -m pytest --with-mpi \
		tests/contracts tests/mpi || { code=$$?; case $$code in 124|137) echo "$@: ended after $(LIMIT) s, the limit" \
		"of a run under mpiexec: a hang, or a busy machine (then: make $@ LIMIT=3000)" >&2 ;; esac; exit $$code; }

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict distopt launch

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

chaos: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m chaos

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One stamp an extra: a second `make train` starts at once.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[$*,$(MPI)]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info out
