"""Which documentation is a sentence from: Python's, NumPy's, or of scikit-learn's data sets?

Words are embeddings, whose gradients are sparse rows. The texts come with the packages.
"""

import re
from collections import Counter
from importlib.resources import files
from pydoc_data.topics import topics

import numpy as np

from distopt import keras
from distopt.distribute import get_replica_context
from distopt.keras import layers

WORDS, LENGTH = 4000, 24
PADDING, UNKNOWN = 0, 1


def sentences() -> list[tuple[list[str], int]]:
    """Sentences as lists of words, each with the number of its source."""
    numpy_docs = {getattr(np, name).__doc__ or "" for name in dir(np) if callable(getattr(np, name))}
    described = [p.read_text() for p in files("sklearn.datasets.descr").iterdir() if p.name.endswith(".rst")]
    found = set()
    for kind, texts in enumerate((topics.values(), sorted(numpy_docs), described)):
        for text in texts:
            for sentence in re.split(r"[.:;]\s|\n\s*\n", text):
                words = re.findall(r"[a-z]{2,}", sentence.lower())
                if len(words) >= 6:
                    found.add((*words, kind))
    return [(list(words), kind) for *words, kind in sorted(found, key=str)]


def as_numbers(texts: list[list[str]], vocabulary: dict[str, int]) -> np.ndarray:
    """``[sentences, LENGTH]``: the first words' numbers, padded."""
    rows = np.full((len(texts), LENGTH), PADDING, np.int32)
    for row, words in zip(rows, texts, strict=True):
        row[: len(words[:LENGTH])] = [vocabulary.get(word, UNKNOWN) for word in words[:LENGTH]]
    return rows


def main() -> float:
    np.random.seed(0)
    data = sentences()
    order = np.random.default_rng(0).permutation(len(data))
    texts, y = [data[i][0] for i in order], np.array([data[i][1] for i in order])
    cut = len(texts) * 4 // 5
    counted = Counter(word for words in texts[:cut] for word in words)
    vocabulary = {word: i + 2 for i, (word, _) in enumerate(counted.most_common(WORDS - 2))}
    x = as_numbers(texts, vocabulary)

    model = keras.Sequential(
        [
            layers.Embedding(WORDS, 16, input_length=LENGTH),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.5, seed=0),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adagrad(learning_rate=0.1), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    rare = {kind: len(y) / (3 * count) for kind, count in Counter(y.tolist()).items()}
    model.fit(
        x[:cut], y[:cut], batch_size=64, epochs=8, class_weight=rare, validation_data=(x[cut:], y[cut:])
    )
    _, accuracy = model.evaluate(x[cut:], y[cut:], verbose=0)
    if get_replica_context().replica_id_in_sync_group == 0:
        shares = ", ".join(f"{n:.0%}" for n in np.bincount(y) / len(y))
        print(f"accuracy {accuracy:.4f} on {len(x) - cut} sentences held back (sources: {shares})")
    return accuracy


if __name__ == "__main__":
    if main() < 0.85:
        raise SystemExit("the accuracy is below 0.85")
