#!/bin/bash
# Two nodes of four replicas. Hosts and sizes come from PBS_NODEFILE: distoptrun needs no -n here.
#   qsub -v SCRIPT=train.py pbs.sh
#PBS -N distopt
#PBS -l select=2:ncpus=16:mpiprocs=4
#PBS -l walltime=04:00:00
#PBS -j oe
set -euo pipefail
cd "$PBS_O_WORKDIR"

# The environment with distopt, and the MPI that its mpi4py was built for:
# module load mpich
source "${DISTOPT_ENV:-$HOME/distopt-env}/bin/activate"

# exec: a signal from PBS reaches distoptrun itself, and through it the replicas, which save.
exec distoptrun --max-restarts 3 --log-dir "logs/$PBS_JOBID" --tee -- "$SCRIPT"
