"""Which documentation is a sentence from: Python's, or NumPy's? A transformer of Flax tells them apart.

The texts come with the packages. Needs Flax: pip install flax

mpirun -n 2 python examples/jax/text.py
"""

import argparse
import re
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

import distopt.jax as dj

LENGTH, BATCH, BYTES = 64, 64, 128  # a batch of all replicas together; characters are ASCII


def sentences() -> tuple[np.ndarray, np.ndarray]:
    """The beginnings of sentences as characters ``[sentences, LENGTH]``, as many of each source; shuffled."""
    numpy_docs = {getattr(np, name).__doc__ or "" for name in dir(np) if callable(getattr(np, name))}
    found: list[list[str]] = []
    for texts in (topics.values(), numpy_docs):
        plain = (
            re.sub(r"[^a-z ]+", " ", part.lower()) for text in texts for part in re.split(r"[.:;]\s", text)
        )
        words = {" ".join(part.split()) for part in plain}
        found.append(sorted(part for part in words if len(part) >= 24))
    random = np.random.default_rng(0)
    count = min(map(len, found))
    kept = [(part, kind) for kind, parts in enumerate(found) for part in random.permutation(parts)[:count]]
    x = np.array([list(part[:LENGTH].ljust(LENGTH).encode()) for part, _ in kept], np.int32)
    order = random.permutation(len(x))
    return x[order], np.array([kind for _, kind in kept], np.int32)[order]


class Classifier(linen.Module):
    """One block of attention over characters that their neighbours are mixed into."""

    width: int = 48

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.Embed(BYTES, self.width)(x) + linen.Embed(LENGTH, self.width)(jnp.arange(LENGTH))
        x = linen.relu(linen.Conv(self.width, (5,))(x))
        x = x + linen.MultiHeadDotProductAttention(num_heads=4)(linen.LayerNorm()(x))
        x = x + linen.Dense(self.width)(linen.relu(linen.Dense(2 * self.width)(linen.LayerNorm()(x))))
        return linen.Dense(2)(x.max(axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()

    x, y = sentences()
    cut = len(x) * 4 // 5
    model = Classifier()

    @jax.jit
    def gradient(params: dict, x: jax.Array, y: jax.Array) -> dict:
        def loss(params: dict) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model.apply(params, x), y).mean()

        return jax.grad(loss)(params)

    steps = options.epochs * (cut // BATCH)
    optimizer = dj.adamw(optax.cosine_decay_schedule(3e-3, steps), clip_by_global_norm=1.0)
    params = optimizer.init(model.init(jax.random.key(0), x[:1]))
    for epoch in range(options.epochs):
        order = np.random.default_rng(epoch).permutation(cut)[: cut // BATCH * BATCH].reshape(-1, BATCH)
        for x_mine, y_mine in dj.shard((x[rows], y[rows]) for rows in order):
            params = optimizer.apply(gradient(params, x_mine, y_mine), examples=len(x_mine))

    if dj.rank() == 0:
        accuracy = float((jax.jit(model.apply)(params, x[cut:]).argmax(axis=-1) == y[cut:]).mean())
        print(f"accuracy {accuracy:.4f} on {len(x) - cut} other sentences, {dj.size()} replica(s)")


if __name__ == "__main__":
    main()
