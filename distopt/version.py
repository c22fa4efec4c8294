"""The version, in this one place: of the package, its distribution and its documentation."""

__all__ = ["__version__"]

__version__ = "0.2.0"
