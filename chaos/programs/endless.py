"""Many steps of fit with backups, seen from outside: ``endless.py FOLDER STEPS``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from chaos.programs.marking import Marked
from distopt import keras
from distopt.keras import callbacks, layers

_EXAMPLES, _BATCH = 1600, 16


def main() -> None:
    """Trains."""
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    marked = Marked(folder / "board")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_EXAMPLES, 32)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    np.random.seed(1)
    model = keras.Sequential(
        [
            layers.Dense(64, activation="relu", input_shape=(32,)),
            layers.BatchNormalization(),
            layers.Dropout(0.1, seed=1),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", ["accuracy"])
    told = [
        callbacks.LambdaCallback(
            on_train_batch_end=lambda *_: marked.at(int(model.optimizer.iterations.numpy()))
        ),
        callbacks.BackupAndRestore(folder / "backup", save_freq=max(200, steps // 100), background=True),
    ]
    epochs = steps // (_EXAMPLES // _BATCH)
    model.fit(
        x, y, batch_size=_BATCH, epochs=epochs, verbose=0, validation_data=(x[:32], y[:32]), callbacks=told
    )


if __name__ == "__main__":
    main()
