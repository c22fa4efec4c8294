"""Collective calls on arrays: headers that hold replicas together, and sums in one fixed order."""

from distopt.collectives.agreement import Agreement, digest, user_line
from distopt.collectives.reduce import UFUNCS, all_reduce
from distopt.collectives.tree import reduce_rows, tree_pairs
from distopt.collectives.wire import Wire, shard_bounds, subtotal

__all__ = [
    "UFUNCS",
    "Agreement",
    "Wire",
    "all_reduce",
    "digest",
    "reduce_rows",
    "shard_bounds",
    "subtotal",
    "tree_pairs",
    "user_line",
]
