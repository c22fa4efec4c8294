"""What is wrong with files of weights and with checkpoints."""

from .case import Case

_SETUP = """\
from distopt.checkpoint import CheckpointManager
layers = tf.keras.layers
w = tf.Variable([1.0, 2.0], name="w")
model = tf.keras.Sequential([layers.Dense(1, input_shape=(2,), name="out")])
"""

CASES = [
    Case(
        "no file of weights",
        "There is no such file.",
        "Look at the path; all replicas must see it.",
        _SETUP
        + """\
model.load_weights('weights.npz')  # here
""",
    ),
    Case(
        "ending of a file of weights",
        "Weights are kept as `.npz` or `.safetensors`.",
        "Choose one of these endings.",
        _SETUP
        + """\
model.save_weights('weights.h5')  # here
""",
    ),
    Case(
        "weights of another model",
        "The file is of a model with other layers or shapes.",
        "Build the model that was saved, with all its layers.",
        _SETUP
        + """\
model.save_weights('weights.npz')
other = tf.keras.Sequential([layers.Dense(3, input_shape=(2,), name='out')], name='other')
other.load_weights('weights.npz')  # here
""",
    ),
    Case(
        "no weights but a text",
        "The file is none of weights, or was cut off while it was copied.",
        "Copy it again.",
        _SETUP
        + """\
open('weights.npz', 'w').write('no weights')
model.load_weights('weights.npz')  # here
""",
    ),
    Case(
        "model without weights",
        "The layers have not been built, so there are no weights yet.",
        "Give the first layer its `input_shape`, or call the model on a batch first.",
        _SETUP
        + """\
tf.keras.Sequential([layers.Dense(1)], name='net').save_weights('weights.npz')  # here
""",
    ),
    Case(
        "nothing to save",
        "No object was given.",
        "Name them: `CheckpointManager(directory, model=model)`.",
        _SETUP
        + """\
CheckpointManager('checkpoints')  # here
""",
    ),
    Case(
        "what cannot be saved",
        "An object that has no state that could be read and set.",
        "Give it `get_state` and `set_state`, or save its numbers as a dict.",
        _SETUP
        + """\
CheckpointManager('checkpoints', step=7).save()  # here
""",
    ),
    Case(
        "checkpoint of other objects",
        "The checkpoint is of other variables than the program's.",
        "Give the objects that were saved, or take another directory.",
        _SETUP
        + """\
manager = CheckpointManager('checkpoints', variables=[w])
manager.save()
longer = tf.Variable(np.zeros(3), name='w')
CheckpointManager('checkpoints', variables=[longer]).restore()  # here
""",
    ),
    Case(
        "no whole checkpoint",
        "All checkpoints of the directory are damaged.",
        "Move them away to begin anew; the warnings before say what is wrong with each.",
        _SETUP
        + """\
import os
manager = CheckpointManager('checkpoints', variables=[w])
path = manager.save()
if rank == 0:
    open(os.path.join(path, 'manifest.json'), 'w').close()
context.all_reduce('sum', 0)
manager.restore()  # here
""",
    ),
    Case(
        "a directory in use",
        "Another job writes checkpoints there.",
        "Wait for it or end it; if it is gone for good, remove the file that the message names.",
        _SETUP
        + """\
import json, os, pathlib
os.makedirs('checkpoints', mode=0o700, exist_ok=True)
owner = dict(host='node7', machine='', boot='', space='', pid=4711, born=1)
owner |= dict(since='12:30', jobs=[], token='a')
pathlib.Path('checkpoints/checkpoints.lock').write_text(json.dumps(owner))
CheckpointManager('checkpoints', variables=[w]).save()  # here
""",
    ),
    Case(
        "a directory that cannot be made",
        "The path leads through a file, or to a place where this user may not write.",
        "Choose another directory.",
        _SETUP
        + """\
open('checkpoints', 'a').close()
CheckpointManager('checkpoints', variables=[w]).save()  # here
""",
    ),
]
