"""Gradients: the tape, and tools to make functions differentiable."""

from distopt.autodiff.gather import gather
from distopt.autodiff.primitives import custom_gradient, defvjp, defvjp_argnums, primitive, stop_gradient
from distopt.autodiff.tape import GradientTape, UnconnectedGradients

__all__ = [
    "GradientTape",
    "UnconnectedGradients",
    "custom_gradient",
    "defvjp",
    "defvjp_argnums",
    "gather",
    "primitive",
    "stop_gradient",
]
