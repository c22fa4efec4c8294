"""A collective call as a primitive of JAX: compiled functions make it in the order of the program.

``jax.experimental.io_callback(..., ordered=True)`` does the same, but hands over copies that it makes in a
thread of XLA: on one core that is the thread that waits for them, and large arrays hang. So this is a
primitive of its own, with io_callback's effect, which orders both, and with arrays as they lie in memory.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from distopt.core.tensor import as_array
from distopt.distribute import get_strategy, require_replica_context
from distopt.jax.collective import Collective
from distopt.jax.leaf import as_array as array_of_leaf
from distopt.typing import Array

__all__ = ["host_call"]


def host_call(collective: Collective, values: list[Any]) -> list[jax.Array]:
    """Returns the results of a collective call on arrays, inside and outside of jit."""
    return list(_primitive.bind(*values, collective=collective))


def _call(collective: Collective, values: list[Array], wanted: list[tuple[Any, Any]]) -> list[Array]:
    context = require_replica_context("a collective call of distopt.jax")
    if context.world.local.size > 1:
        raise RuntimeError(
            f"{collective} inside jit, while {context.world.local.size} replicas run in this process: JAX "
            "runs such functions one after the other, so they would wait for each other forever. Use one "
            "replica per process, or jax.disable_jit()"
        )
    results = [np.asarray(as_array(r)) for r in collective.call(context, values)]
    for value, result, (shape, _) in zip(values, results, wanted, strict=True):
        if result.shape != shape:
            raise ValueError(
                f"{collective} of an array of shape {value.shape} has shape {result.shape}, not {shape}: "
                "inside jit the arrays of all replicas must have the same shape"
            )
    return [result.astype(dtype) for result, (_, dtype) in zip(results, wanted, strict=True)]


def _outside(*values: Any, collective: Collective) -> list[jax.Array]:
    jax.effects_barrier()  # calls that JAX still makes, in threads of its own, come first
    arrays = [array_of_leaf(value, f"what {collective} got") for value in values]
    context = require_replica_context("a collective call of distopt.jax")
    results = collective.call(context, arrays)
    return [jnp.asarray(np.asarray(as_array(result))) for result in results]


def _shapes(*avals: Any, collective: Collective) -> tuple[list[Any], set[Any]]:
    replicas = get_strategy().num_replicas_in_sync
    results = [collective.result(aval.shape, aval.dtype, replicas) for aval in avals]
    return [jax.core.ShapedArray(shape, dtype) for shape, dtype in results], {_effect}


def _lowered(ctx: Any, *values: Any, collective: Collective) -> Any:
    wanted = [(aval.shape, aval.dtype) for aval in ctx.avals_out]

    def call(*arrays: Any) -> tuple[Array, ...]:
        return tuple(_call(collective, list(map(np.asarray, arrays)), wanted))

    token = ctx.tokens_in.get(_effect)
    results, token, _ = mlir.emit_python_callback(
        ctx, call, token, list(values), ctx.avals_in, ctx.avals_out, has_side_effect=True
    )
    ctx.set_tokens_out(ctx.tokens_in.update_tokens(type(ctx.tokens_in)({_effect: token})))
    return results


def _mapped(values: Any, axes: Any, *, collective: Collective) -> Any:
    """Under vmap: one call with all of the axis."""
    size = next(v.shape[axis] for v, axis in zip(values, axes, strict=True) if axis is not None)
    whole = [
        jnp.broadcast_to(v, (size, *v.shape)) if axis is None else jnp.moveaxis(v, axis, 0)
        for v, axis in zip(values, axes, strict=True)
    ]
    return _primitive.bind(*whole, collective=collective.batched()), [0] * len(whole)


#: That of ordered callbacks: JAX keeps what has it in order, also in cond, scan and while.
(_effect,) = jax.make_jaxpr(lambda: io_callback(lambda: (), (), ordered=True))().effects


def _made() -> Any:
    made = Primitive("distopt_collective")
    made.multiple_results = True
    made.def_impl(_outside)
    made.def_effectful_abstract_eval(_shapes)
    mlir.register_lowering(made, _lowered, platform="cpu")
    batching.primitive_batchers[made] = _mapped
    return made


_primitive = _made()
