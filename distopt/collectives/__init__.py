"""Collective calls on arrays: headers that hold replicas together, and sums in one fixed order."""

from distopt.collectives.arrays import address_of, addresses_of
from distopt.collectives.collective_check import CollectiveCheck, digest, user_call
from distopt.collectives.inter_node_reduce import InterNodeReduce, subtotal
from distopt.collectives.node_all_reduce import NodeAllReduce
from distopt.collectives.overlapped_sums import OverlappedSums
from distopt.collectives.partition import CHUNK, PIECE, Partition
from distopt.collectives.reduce import UFUNCS, all_reduce, reduce_joined
from distopt.collectives.shard_reduce import ShardReduce
from distopt.collectives.shared import SharedScratch, shared_block, shared_memory
from distopt.collectives.staging import StagingBuffer
from distopt.collectives.tree import reduce_rows, tree_pairs

__all__ = [
    "CHUNK",
    "PIECE",
    "UFUNCS",
    "CollectiveCheck",
    "InterNodeReduce",
    "NodeAllReduce",
    "OverlappedSums",
    "Partition",
    "ShardReduce",
    "SharedScratch",
    "StagingBuffer",
    "address_of",
    "addresses_of",
    "all_reduce",
    "digest",
    "reduce_joined",
    "reduce_rows",
    "shared_block",
    "shared_memory",
    "subtotal",
    "tree_pairs",
    "user_call",
]
