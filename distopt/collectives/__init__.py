"""Collective calls on arrays: headers that check each call, and sums in a fixed order."""

from distopt.collectives.arrays import address_of, addresses_of
from distopt.collectives.collective_check import CollectiveCheck, digest, user_call
from distopt.collectives.inter_node_reduce import InterNodeReduce, subtotal
from distopt.collectives.ledger import Ledger
from distopt.collectives.ledger_layout import CAUSES, PHASES, Phase
from distopt.collectives.ledger_report import Report, Straggler, closing_words, recently_last
from distopt.collectives.node_all_reduce import NodeAllReduce
from distopt.collectives.overlapped_sums import OverlappedSums
from distopt.collectives.partition import CHUNK, PIECE, Partition
from distopt.collectives.quantized_reduce import QuantizedReduce, Sums, sums_by
from distopt.collectives.reduce import UFUNCS, all_reduce, reduce_joined
from distopt.collectives.shard_reduce import ShardReduce
from distopt.collectives.shared import SharedScratch, shared_block, shared_memory
from distopt.collectives.staging import StagingBuffer
from distopt.collectives.tree import reduce_rows, tree_pairs
from distopt.collectives.wire_formats import EXACT, as_wire

__all__ = [
    "CAUSES",
    "CHUNK",
    "EXACT",
    "PHASES",
    "PIECE",
    "UFUNCS",
    "CollectiveCheck",
    "InterNodeReduce",
    "Ledger",
    "NodeAllReduce",
    "OverlappedSums",
    "Partition",
    "Phase",
    "QuantizedReduce",
    "Report",
    "ShardReduce",
    "SharedScratch",
    "StagingBuffer",
    "Straggler",
    "Sums",
    "address_of",
    "addresses_of",
    "all_reduce",
    "as_wire",
    "closing_words",
    "digest",
    "recently_last",
    "reduce_joined",
    "reduce_rows",
    "shared_block",
    "shared_memory",
    "subtotal",
    "sums_by",
    "tree_pairs",
    "user_call",
]
