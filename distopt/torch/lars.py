"""LARS, which PyTorch does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.optimizers.limits import NOT_NEGATIVE, within
from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.lars import LARSUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LARS"]


class LARS(Optimizer):
    """LARS over all replicas, for large batches: SGD with a learning rate for each parameter.

    SGD's step with the gradient ``r * (g + weight_decay * w)``, where ``r = trust_coefficient * norm(w) /
    (norm(g) + weight_decay * norm(w) + eps)``. The ratio is 1 if a norm is 0, and in groups without weight
    decay, such as biases.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        momentum: the momentum factor.
        dampening: the dampening of the momentum: the gradient enters it with the factor ``1 - dampening``.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        nesterov: whether to use Nesterov momentum.
        trust_coefficient: the ratio if parameter and gradient have the same norm.
        eps: added to the denominator for numerical stability.
        maximize: whether to maximize the loss instead of minimizing it.
        always_adapt: whether to use ratios in groups without weight decay as well.
        trust_clip: whether to limit the learning rate of a parameter to ``lr`` (LARC).
        **options: see StepOptions.

    Raises:
        ValueError: a number is out of range.

    Source: You et al. 2017, "Large Batch Training of Convolutional Networks", arXiv:1708.03888.
    """

    _update = LARSUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        trust_coefficient: float = 0.001,
        eps: float = 1e-8,
        maximize: bool = False,
        always_adapt: bool = False,
        trust_clip: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "trust_coefficient": trust_coefficient,
            "eps": eps,
            "maximize": maximize,
            "always_adapt": always_adapt,
            "trust_clip": trust_clip,
        }
        for name in ("lr", "momentum", "weight_decay", "trust_coefficient", "eps"):
            within(NOT_NEGATIVE, defaults[name], f"{name} of LARS")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("LARS: Nesterov momentum requires a momentum and zero dampening")
        with self._over_replicas(params, options) as given:
            super().__init__(given, defaults)
