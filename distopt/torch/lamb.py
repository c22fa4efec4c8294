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
    """LAMB over all replicas, for large batches: Adam with each step scaled to the norm of its parameter.

    ``u = m / (1 - beta1**s) / (sqrt(v / (1 - beta2**s)) + eps) + weight_decay * w`` in step ``s``, then ``w
    -= lr * norm(w) / norm(u) * u``. The ratio is 1 if a norm is 0, and in groups without weight decay, such
    as biases. apex and timm clip gradients by default; this optimizer does not. Pass ``clip_grad_norm=1.0``
    to do the same.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the denominator for numerical stability.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the direction.
        bias_correction: whether to divide the means by ``1 - beta**s``.
        grad_averaging: whether to multiply the gradient by ``1 - beta1`` in its mean.
        maximize: whether to maximize the loss instead of minimizing it.
        always_adapt: whether to use ratios in groups without weight decay as well.
        trust_clip: whether to limit ratios to 1.
        **options: see StepOptions.

    Raises:
        ValueError: a number is out of range.

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
