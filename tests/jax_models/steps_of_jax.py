"""A program of JAX whose bits must not depend on how its replicas are laid out; prints their hash."""

import hashlib

import jax
import jax.numpy as jnp

import distopt.jax as distopt_jax


def loss(params, x):
    x = jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"])
    return ((x @ params["out"].astype("f4")) ** 2).mean()


def main():
    """The hash of all parameters and of the state after some steps, weighed and edited."""
    draw = jax.random.normal(jax.random.key(distopt_jax.rank()), (30, 70))
    params = {"in": {"kernel": draw, "bias": jnp.zeros(70)}, "out": jnp.ones((70, 2), jnp.bfloat16)}
    optimizer = distopt_jax.adamw(
        lambda count: 0.01 / (1 + count),
        weight_decay=0.1,
        mask={"in": True, "out": False},
        clip_by_global_norm=1.0,
    )
    params = optimizer.init(params)
    gradient = jax.jit(jax.grad(loss))
    for step in range(4):
        x = jax.random.normal(jax.random.fold_in(distopt_jax.key(7), step), (5, 30))
        if step == 2:
            params["in"]["bias"] = params["in"]["bias"].clip(-0.01, 0.01)
            optimizer.params = params
        grads = gradient(params, x)
        if step == 3:
            grads["out"] = None
        params = optimizer.apply(grads, examples=3 + distopt_jax.rank() if step % 2 else None)
    digest = hashlib.sha256()
    for name, value in optimizer.state_dict().items():
        digest.update(name.encode() + value.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    found = main()
    if distopt_jax.rank() == 0:
        print("HASH", found, "of", distopt_jax.size(), flush=True)
