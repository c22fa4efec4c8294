"""LAMB, which PyTorch does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distopt.optimizers.limits import NOT_NEGATIVE, within
from distopt.torch.arguments import check_betas, check_rate
from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.lamb import LAMBUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LAMB"]


class LAMB(Optimizer):
    """Adam's direction, scaled for each parameter to the norm of the parameter: for large batches.

    ``u = m / (1 - beta1**s) / (sqrt(v / (1 - beta2**s)) + eps) + weight_decay * w`` in step ``s``, then
    ``w -= lr * norm(w) / norm(u) * u``. The ratio is 1 where a norm is 0, and in groups without weight decay,
    such as those of biases. Gradients are not clipped, as they are by default in apex and timm:
    ``clip_grad_norm=1.0`` does that.

    Args:
        params: the model, or what PyTorch takes: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decays of the means of the gradient and of its square.
        eps: keeps the divisor above zero.
        weight_decay: times the parameter is added to the direction.
        bias_correction: whether the means are divided by ``1 - beta**s``.
        grad_averaging: whether the gradient is multiplied by ``1 - beta1`` in its mean.
        maximize: whether to go up.
        always_adapt: whether groups without weight decay have ratios, too.
        trust_clip: whether ratios are at most 1.
        **options: see StepOptions.

    Raises:
        ValueError: a number that makes no sense.

    Source: You et al. 2019, "Large Batch Optimization for Deep Learning", arXiv:1904.00962.
    """

    _update = LAMBUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        bias_correction: bool = True,
        grad_averaging: bool = True,
        maximize: bool = False,
        always_adapt: bool = False,
        trust_clip: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        check_rate(lr, "LAMB")
        check_betas(betas, "LAMB")
        for name, value in (("eps", eps), ("weight_decay", weight_decay)):
            within(NOT_NEGATIVE, value, f"{name} of LAMB")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "grad_averaging": grad_averaging,
            "maximize": maximize,
            "always_adapt": always_adapt,
            "trust_clip": trust_clip,
        }
        with self._over_replicas(params, options) as given:
            super().__init__(given, defaults)
