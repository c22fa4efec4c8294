"""Arrays seen all at once are where NumPy says, and no array that is otherwise passes for one that fits."""

import numpy as np
import pytest

import distopt as tf
from distopt.collectives import addresses_of
from distopt.collectives.array_specs import ArraySpecs

SHAPES = [(3, 4), (), (0, 2), (5,), (2, 1, 3, 1)]


def arrays(dtype=np.float32):
    return [np.arange(np.prod(shape), dtype=dtype).reshape(shape) for shape in SHAPES]


def test_addresses_are_those_of_the_data():
    given = arrays()
    found = ArraySpecs(arrays()).addresses_of(given)
    assert found.tolist() == [array.__array_interface__["data"][0] for array in given]
    assert addresses_of(given).tolist() == found.tolist()


def test_parts_of_larger_memory_and_read_only_arrays_fit():
    memory = np.arange(40, dtype=np.float32)
    part = memory[7:19].reshape(3, 4)
    part.flags.writeable = False
    found = ArraySpecs([np.zeros((3, 4), np.float32)]).addresses_of([part])
    assert found[0] == memory.__array_interface__["data"][0] + 7 * 4


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((3, 4), np.float64),
        np.zeros((3, 4), np.int32),
        np.zeros((3, 4), np.dtype(np.float32).newbyteorder()),
        np.zeros((4, 3), np.float32),
        np.zeros((3, 4, 1), np.float32),
        np.zeros(12, np.float32),
        np.zeros((), np.float32),
        np.zeros((4, 3), np.float32).T,
        np.zeros((3, 8), np.float32)[:, ::2],
        np.zeros(49, np.uint8)[1:].view(np.float32).reshape(3, 4),
    ],
    ids=lambda a: f"{a.dtype.str}{list(a.shape)} strides {list(a.strides)}",
)
def test_other_arrays_do_not_fit(other):
    assert ArraySpecs(arrays()).addresses_of([other, *arrays()[1:]]) is None


def test_gradients_of_all_layouts_make_the_same_step():
    def step(kind):
        v = [tf.Variable(np.full((6, 4), 0.5, np.float32), name=str(i)) for i in range(3)]
        optimizer = tf.optimizers.Adam(0.1)
        for _ in range(3):
            gradients = [np.arange(24, dtype=np.float32).reshape(6, 4) + i for i in range(3)]
            optimizer.apply_gradients(zip([gradients[0], kind(gradients[1]), gradients[2]], v, strict=True))
        return [x.numpy().tolist() for x in v]

    plain = step(lambda g: g)
    assert step(np.asfortranarray) == plain
    assert step(tf.constant) == plain
    assert step(np.ndarray.tolist) == plain
    assert step(lambda g: np.repeat(g, 2, axis=1)[:, ::2]) == plain
