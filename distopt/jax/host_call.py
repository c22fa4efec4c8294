"""``host_call``: a JAX primitive for collective calls, which compiled functions make in program order.

``jax.experimental.io_callback(..., ordered=True)`` would do the same, but it copies the arguments in a thread
of XLA. On one core, that is the thread that waits for the copies, so large arrays deadlock. This primitive
passes the arrays without copies. It has the effect of io_callback, so that JAX orders the calls of both.
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
    """Makes the call of a compiled function, which expects results of the shapes and dtypes ``wanted``."""
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
    """Makes the call outside of jit."""
    jax.effects_barrier()  # waits for the calls of compiled functions, which JAX runs in other threads
    arrays = [array_of_leaf(value, f"what {collective} got") for value in values]
    context = require_replica_context("a collective call of distopt.jax")
    results = collective.call(context, arrays)
    return [jnp.asarray(np.asarray(as_array(result))) for result in results]


def _shapes(*avals: Any, collective: Collective) -> tuple[list[Any], set[Any]]:
    """Abstract evaluation: the shapes and dtypes of the results, and the effect."""
    replicas = get_strategy().num_replicas_in_sync
    results = [collective.result(aval.shape, aval.dtype, replicas) for aval in avals]
    return [jax.core.ShapedArray(shape, dtype) for shape, dtype in results], {_effect}


def _lowered(ctx: Any, *values: Any, collective: Collective) -> Any:
    """Lowers the primitive to a Python callback, ordered by the token of the effect."""
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
    """Batching rule: one call on the arrays with the mapped axis in front."""
    size = next(v.shape[axis] for v, axis in zip(values, axes, strict=True) if axis is not None)
    whole = [
        jnp.broadcast_to(v, (size, *v.shape)) if axis is None else jnp.moveaxis(v, axis, 0)
        for v, axis in zip(values, axes, strict=True)
    ]
    return _primitive.bind(*whole, collective=collective.batched()), [0] * len(whole)


#: The effect of ordered callbacks. JAX runs operations that have it in program order, also in cond, scan and
#: while.
(_effect,) = jax.make_jaxpr(lambda: io_callback(lambda: (), (), ordered=True))().effects


def _new_primitive() -> Any:
    primitive = Primitive("distopt_collective")
    primitive.multiple_results = True
    primitive.def_impl(_outside)
    primitive.def_effectful_abstract_eval(_shapes)
    mlir.register_lowering(primitive, _lowered, platform="cpu")
    batching.primitive_batchers[primitive] = _mapped
    return primitive


_primitive = _new_primitive()
