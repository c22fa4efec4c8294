"""Collective calls inside of compiled functions, by two processes; raises if a number is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import distopt.jax as dj

rank, size = dj.rank(), dj.size()
#: So large that io_callback would hang where there is one core.
LARGE = 1500


def same(found, expected, tolerance=1e-6):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=tolerance)


def sums_and_means_of_trees():
    tree = {"a": jnp.full((2, 3), rank + 1.0), "b": [jnp.arange(3) + rank], "c": 2.0 * rank}
    for around in (jax.jit, lambda f: f):
        total = around(dj.all_reduce)(tree)
        same(total["a"], np.full((2, 3), 3.0))
        same(total["b"][0], [1, 3, 5])
        assert total["b"][0].dtype == jnp.int32
        same(around(lambda t: dj.all_reduce(t, "mean"))(tree)["b"][0], [0.5, 1.5, 2.5])
        same(around(lambda t: dj.all_reduce(t, "max"))(tree)["c"], 2.0)
        same(around(lambda t: dj.all_gather(t["a"], axis=-1))(tree), [[1, 1, 1, 2, 2, 2]] * 2)
        same(around(lambda t: dj.broadcast(t, root=1))(tree)["a"], np.full((2, 3), 2.0))
    large = jax.jit(lambda x: [dj.all_reduce(y) for y in (x @ x, x + 1)])(
        jnp.full((LARGE, LARGE), rank + 1.0)
    )
    same(large[0][0, 0], 5.0 * LARGE)
    same(large[1][-1, -1], 5.0)


def order_is_kept_in_cond_and_scan():
    def body(carry, x):
        one = dj.all_reduce(x)
        other = jax.lax.cond(x[0] > 1.5 * (rank + 1), lambda v: dj.all_reduce(v, "max"), lambda v: v, one)
        return carry + other, one

    xs = jnp.arange(1.0, 4.0)[:, None] * (rank + 1)
    carry, seen = jax.jit(lambda xs: jax.lax.scan(body, jnp.zeros(1), xs))(xs)
    same(seen, [[3.0], [6.0], [9.0]])
    same(carry, [18.0])


def derivatives_are_those_of_the_loss_over_all_replicas():
    weights = jnp.arange(3.0) + 1

    def loss(x, op):
        return (dj.all_reduce(x * (rank + 1), op) ** 2 * weights).sum()

    x = jnp.array([1.0, 2.0, 3.0])
    for around in (jax.jit, lambda f: f):
        # Sum: (x + 2 x)**2 on both replicas, each with a factor of its own to x.
        same(around(jax.grad(lambda x: loss(x, "sum")))(x), 2 * 2 * 3 * x * weights * (rank + 1), 1e-4)
        same(around(jax.grad(lambda x: loss(x, "mean")))(x), 2 * 1.5 * x * weights * (rank + 1), 1e-4)
        found = around(jax.grad(lambda x: (dj.all_gather(x) * jnp.arange(6.0) * (rank + 1)).sum()))(x)
        same(found, 3 * (np.arange(3.0) + 3 * rank))
        found = around(jax.grad(lambda x: dj.broadcast(x, root=1).sum()))(x)
        same(found, np.full(3, 2.0 * rank))
    mapped = jax.jit(jax.vmap(jax.grad(lambda x: loss(x, "sum"))))(jnp.stack([x, 2 * x]))
    same(mapped[1], 2 * 2 * 3 * 2 * x * weights * (rank + 1), 1e-4)
    rows = jax.jit(jax.vmap(lambda x, y: dj.all_gather([x, y]), in_axes=(1, None)))(jnp.full((3, 2), rank), x)
    same(rows[0], [[0, 0, 0, 1, 1, 1]] * 2)
    same(rows[1], np.tile(x, (2, 2)))
    with pytest.raises(NotImplementedError, match="stop_gradient"):
        jax.grad(lambda x: dj.all_reduce(x, "max"))(1.0)


def a_chain_of_optax_trains_as_one_process():
    def trained(links, part):
        optimizer = optax.chain(*links, optax.clip_by_global_norm(0.1), optax.adam(0.05))
        params = {"w": jnp.ones(3)}

        @jax.jit
        def steps(params, state, xs):
            def body(carry, x):
                params, state = carry
                grads = jax.grad(lambda p: ((x @ p["w"]) ** 2).mean())(params)
                updates, state = optimizer.update(grads, state, params)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(body, (params, state), xs)[0]

        xs = jnp.asarray(np.random.default_rng(0).normal(size=(10, 8, 3)), jnp.float32)
        return steps(params, optimizer.init(params), xs[:, part])[0]["w"]

    same(trained([dj.aggregate()], slice(rank, None, size)), trained([], slice(None)), 1e-5)


sums_and_means_of_trees()
order_is_kept_in_cond_and_scan()
derivatives_are_those_of_the_loss_over_all_replicas()
a_chain_of_optax_trains_as_one_process()
print("RIGHT", flush=True)
