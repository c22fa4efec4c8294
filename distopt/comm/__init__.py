"""How bytes move: one interface, and its three implementations alone, in one process, and MPI."""

from distopt.comm.baton import Baton
from distopt.comm.communicator import HEADER_BYTES, Communicator
from distopt.comm.forks import started_mpi
from distopt.comm.inprocess import InProcessCommunicator
from distopt.comm.memory import SharedBlock
from distopt.comm.output import drain, flush, say
from distopt.comm.solo import SoloCommunicator

__all__ = [
    "HEADER_BYTES",
    "Baton",
    "Communicator",
    "InProcessCommunicator",
    "SharedBlock",
    "SoloCommunicator",
    "drain",
    "flush",
    "say",
    "started_mpi",
]
