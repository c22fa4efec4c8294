"""Trains on handwritten digits by ``fit``, and goes on after any end: ``training.py FOLDER [EPOCHS]``.

The folder holds the digits (``digits.npz``), the board, the backups; at the end ``digest``, the SHA-256 of
weights and optimizer state, and the accuracy.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chaos.programs.marking import Marked

FOLDER = Path(sys.argv[1])
EPOCHS = int(sys.argv[2]) if len(sys.argv) > 2 else 12
marked = Marked(FOLDER / "board")

import hashlib  # noqa: E402 (the start is something that can be hit, too)

import numpy as np  # noqa: E402

from distopt import keras  # noqa: E402
from distopt.checkpoint import CheckpointManager  # noqa: E402
from distopt.comm.mpi import MPICommunicator, MPINodeCommunicator  # noqa: E402
from distopt.keras import callbacks, layers  # noqa: E402
from distopt.keras.callbacks.callback import is_chief  # noqa: E402


def main() -> None:
    """Trains."""
    marked.around(CheckpointManager, "saving", "save", "step")
    for group in (MPICommunicator, MPINodeCommunicator):
        marked.around(group, "collective", "barrier", "exchange", "all_gather", "all_to_all")
    digits = np.load(FOLDER / "digits.npz")
    x, y = digits["x"], digits["y"]
    np.random.seed(1)
    model = keras.Sequential(
        [
            layers.Dense(64, activation="relu", input_shape=(64,)),
            layers.Dropout(0.1, seed=2),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    told = [
        callbacks.LambdaCallback(
            on_train_batch_begin=lambda *_: marked.do("computing"),
            on_train_batch_end=lambda *_: marked.at(int(model.optimizer.iterations.numpy())),
        ),
        callbacks.BackupAndRestore(FOLDER / "backup", save_freq=20, delete_checkpoint=False),
    ]
    model.fit(x, y, batch_size=32, epochs=EPOCHS, verbose=0, seed=3, callbacks=told)
    marked.do("end")
    accuracy = float(np.mean(model.predict(x).argmax(axis=1) == y))
    hashed = hashlib.sha256()
    for array in (*model.get_weights(), *model.optimizer.get_weights()):
        hashed.update(np.asarray(array).tobytes())
    if is_chief():
        (FOLDER / "digest").write_text(f"{hashed.hexdigest()} {accuracy:.4f}")


if __name__ == "__main__":
    main()
