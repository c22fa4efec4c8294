"""Names that TensorFlow keeps for programs written for its version 1."""

from distopt.compat import v1

__all__ = ["v1"]
