"""Wide numbers of JAX, in every version that the package allows."""

import jax


def x64(wanted: bool = True):
    """A context in which JAX has 64 bits, or has not."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(wanted)
    from jax.experimental import enable_x64  # of old versions; new ones warn of it

    return enable_x64(wanted)
