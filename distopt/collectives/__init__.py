"""Collective calls on arrays: headers that hold replicas together, and sums in one fixed order."""

from distopt.collectives.arrays import address_of, addresses_of
from distopt.collectives.collective_check import CollectiveCheck, digest, user_call
from distopt.collectives.inter_node_reduce import InterNodeReduce, subtotal
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
    "CHUNK",
    "EXACT",
    "PIECE",
    "UFUNCS",
    "CollectiveCheck",
    "InterNodeReduce",
    "NodeAllReduce",
    "OverlappedSums",
    "Partition",
    "QuantizedReduce",
    "ShardReduce",
    "SharedScratch",
    "StagingBuffer",
    "Sums",
    "address_of",
    "addresses_of",
    "all_reduce",
    "as_wire",
    "digest",
    "reduce_joined",
    "reduce_rows",
    "shared_block",
    "shared_memory",
    "subtotal",
    "sums_by",
    "tree_pairs",
    "user_call",
]
