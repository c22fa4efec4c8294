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
        "The file does not exist.",
        "Check the path. All replicas must be able to read it.",
        _SETUP
        + """\
model.load_weights('weights.npz')  # here
""",
    ),
    Case(
        "ending of a file of weights",
        "The file name must end in `.npz` or `.safetensors`.",
        "Use one of these endings.",
        _SETUP
        + """\
model.save_weights('weights.h5')  # here
""",
    ),
    Case(
        "weights of another model",
        "The file has the weights of a model with other layers or shapes.",
        "Create the model as it was when you saved it.",
        _SETUP
        + """\
model.save_weights('weights.npz')
other = tf.keras.Sequential([layers.Dense(3, input_shape=(2,), name='out')], name='other')
other.load_weights('weights.npz')  # here
""",
    ),
    Case(
        "no weights but a text",
        "The file does not contain weights, or it is incomplete.",
        "Check the path, or copy the file again.",
        _SETUP
        + """\
open('weights.npz', 'w').write('no weights')
model.load_weights('weights.npz')  # here
""",
    ),
    Case(
        "model without weights",
        "The layers have not been built, so there are no weights yet.",
        "Pass `input_shape` to the first layer, or call the model on a batch first.",
        _SETUP
        + """\
tf.keras.Sequential([layers.Dense(1)], name='net').save_weights('weights.npz')  # here
""",
    ),
    Case(
        "nothing to save",
        "You passed no object.",
        "Pass objects by keyword: `CheckpointManager(directory, model=model)`.",
        _SETUP
        + """\
CheckpointManager('checkpoints')  # here
""",
    ),
    Case(
        "what cannot be saved",
        "The object has no state that can be read and set.",
        "Implement `get_state` and `set_state`, or save its values in a dict.",
        _SETUP
        + """\
CheckpointManager('checkpoints', step=7).save()  # here
""",
    ),
    Case(
        "checkpoint of other objects",
        "The variables in the checkpoint differ from those of the program.",
        "Pass the objects that were saved, or use another directory.",
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
        (
            "Move them away to start from the beginning. The warnings before the error show what is "
            "wrong with each."
        ),
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
        "Another job writes checkpoints to this directory.",
        "Wait for that job or end it. If it no longer exists, remove the file in the message.",
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
        "Part of the path is a file, or you have no permission to write there.",
        "Use another directory.",
        _SETUP
        + """\
open('checkpoints', 'a').close()
CheckpointManager('checkpoints', variables=[w]).save()  # here
""",
    ),
]
