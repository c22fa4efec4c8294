"""The ground state of a ring of spins, found by minimizing the energy of samples (variational Monte Carlo).

The transverse-field Ising model at its critical field, H = -sum of z z' - sum of x: its energy is known
exactly.

mpirun -n 2 python examples/jax/spin_chain.py
"""

import argparse
import math

import jax
import jax.numpy as jnp

import distopt.jax as dj

SPINS, CHAINS, HIDDEN = 10, 512, 20  # chains of all replicas together


def exact_energy() -> float:
    """That of free fermions; Pfeuty 1970."""
    momenta = [math.pi * (2 * k + 1) / SPINS for k in range(SPINS)]
    return -sum(math.sqrt(2 + 2 * math.cos(p)) for p in momenta)


def log_psi(params: dict, spins: jax.Array) -> jax.Array:
    """The logarithm of the amplitude of states ``[..., SPINS]``: a restricted Boltzmann machine."""
    hidden = spins @ params["kernel"] + params["bias"]
    return jnp.log(jnp.cosh(hidden)).sum(axis=-1)


def local_energy(params: dict, spins: jax.Array) -> jax.Array:
    """``(H psi) / psi`` of each state."""
    flipped = spins[:, None, :] * (1 - 2 * jnp.eye(SPINS))
    ratios = jnp.exp(log_psi(params, flipped) - log_psi(params, spins)[:, None])
    return -(spins * jnp.roll(spins, 1, axis=-1)).sum(axis=-1) - ratios.sum(axis=-1)


@jax.jit
def sample(params: dict, spins: jax.Array, key: jax.Array) -> jax.Array:
    """The chains after some sweeps of single flips (Metropolis)."""

    def flip(spins: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        place, chance = jax.random.split(key)
        site = jax.random.randint(place, spins.shape[:1], 0, SPINS)
        proposed = spins * (1 - 2 * jax.nn.one_hot(site, SPINS))
        ratio = jnp.exp(2 * (log_psi(params, proposed) - log_psi(params, spins)))
        accepted = jax.random.uniform(chance, ratio.shape) < ratio
        return jnp.where(accepted[:, None], proposed, spins), None

    return jax.lax.scan(flip, spins, jax.random.split(key, 3 * SPINS))[0]


@jax.jit
def gradient(params: dict, spins: jax.Array, mean: jax.Array) -> dict:
    """``2 <(E - <E>) d log psi>`` over this replica's samples, with the mean over those of all."""
    weights = local_energy(params, spins) - mean
    return jax.grad(lambda p: 2 * (weights * log_psi(p, spins)).mean())(params)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=250)
    options = parser.parse_args()

    kernel = 0.1 * jax.random.normal(jax.random.key(0), (SPINS, HIDDEN))
    optimizer = dj.adam(0.02)
    params = optimizer.init({"kernel": kernel, "bias": jnp.zeros(HIDDEN)})
    key = dj.key(1)
    spins = jax.random.rademacher(key, (CHAINS // dj.size(), SPINS), "float32")
    energies = []
    for step in range(options.steps):
        spins = sample(params, spins, jax.random.fold_in(key, step))
        mean = dj.all_reduce(local_energy(params, spins).mean(), "mean")
        params = optimizer.apply(gradient(params, spins, mean))
        energies.append(float(mean))

    last = energies[-len(energies) // 8 :]
    found, exact = sum(last) / len(last), exact_energy()
    if dj.rank() == 0:
        print(f"energy {found:.4f}, exact {exact:.4f}, {dj.size()} replica(s)")
    assert abs(found - exact) < 0.005 * abs(exact), "the ground state was not found"


if __name__ == "__main__":
    main()
