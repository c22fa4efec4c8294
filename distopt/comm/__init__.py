"""Transport: the communicators of a job, for a single replica, for threads of one process, and for MPI."""

from distopt.comm.communicator import HEADER_BYTES, Communicator, NodeCommunicator
from distopt.comm.ending import abort_job
from distopt.comm.forks import started_mpi
from distopt.comm.inprocess import in_process_world
from distopt.comm.local import LocalGroup
from distopt.comm.memory import SharedBlock
from distopt.comm.output import flush, say
from distopt.comm.pages import same_bytes
from distopt.comm.peer_waits import Arrivals, PeerWaits
from distopt.comm.private_view import PrivateView, private_view
from distopt.comm.solo import SoloCommunicator, solo_world
from distopt.comm.spans import Span, SpanRecorder
from distopt.comm.turn_scheduler import SIGNAL_WAIT, TurnScheduler
from distopt.comm.world import StatusWriter, World

__all__ = [
    "HEADER_BYTES",
    "SIGNAL_WAIT",
    "Arrivals",
    "Communicator",
    "LocalGroup",
    "NodeCommunicator",
    "PeerWaits",
    "PrivateView",
    "SharedBlock",
    "SoloCommunicator",
    "Span",
    "SpanRecorder",
    "StatusWriter",
    "TurnScheduler",
    "World",
    "abort_job",
    "flush",
    "in_process_world",
    "private_view",
    "same_bytes",
    "say",
    "solo_world",
    "started_mpi",
]
