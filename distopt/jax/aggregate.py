"""``aggregate``: a gradient transformation for ``optax.chain`` that reduces gradients over replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.distribute import ReduceOp
from distopt.errors import MissingExtra
from distopt.jax.collectives import all_reduce

if TYPE_CHECKING:
    import optax

__all__ = ["aggregate"]


def aggregate(op: ReduceOp | str = "mean") -> optax.GradientTransformation:
    """A gradient transformation that averages or sums the gradients of all replicas.

    ``optax.chain(dj.aggregate(), optax.clip_by_global_norm(1.0), optax.adam(1e-3))`` works inside and outside
    of jit. The state is empty. Start with the same parameters on all replicas: ``params =
    dj.broadcast(params)``.

    Args:
        op: ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: another op.
        MissingExtra: optax is not installed.
    """
    try:
        import optax
    except ModuleNotFoundError:
        raise MissingExtra.of("distopt.jax.aggregate()", "optax") from None
    reduce = ReduceOp.from_any(op)
    if reduce not in (ReduceOp.MEAN, ReduceOp.SUM):
        raise ValueError(f"aggregate() takes 'mean' or 'sum'; got {op!r}")

    def init(params: Any) -> optax.EmptyState:  # noqa: ARG001
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:  # noqa: ARG001
        return all_reduce(updates, reduce), state

    return optax.GradientTransformation(init, update)
