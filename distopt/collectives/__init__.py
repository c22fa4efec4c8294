"""Collective calls on arrays: headers that hold replicas together, and sums in one fixed order."""

from distopt.collectives.agreement import Agreement, digest, user_line
from distopt.collectives.reduce import UFUNCS, all_reduce, shard_bounds
from distopt.collectives.tree import live_rows, local_pairs, reduce_rows, tree_pairs

__all__ = [
    "UFUNCS",
    "Agreement",
    "all_reduce",
    "digest",
    "live_rows",
    "local_pairs",
    "reduce_rows",
    "shard_bounds",
    "tree_pairs",
    "user_line",
]
