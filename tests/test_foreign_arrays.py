"""Arrays of other libraries: what is read, what is given out, what is refused."""

import numpy as np
import pytest

import distopt as tf

MASKED = np.ma.array([1.0, 2.0], mask=[False, True], dtype=np.float32)


def variable(value=(1.0, 2.0)):
    return tf.Variable(np.array(value, np.float32), name="w")


def in_a_tape(function):
    v = variable()
    with tf.GradientTape():
        return function(v)


TAKES = {
    "Variable": tf.Variable,
    "Variable of a list": lambda x: tf.Variable([x, x]),
    "constant": tf.constant,
    "assign": lambda x: variable().assign(x),
    "operator": lambda x: variable() * x,
    "function": lambda x: tf.math.multiply(variable(), x),
    "in a tape": lambda x: in_a_tape(lambda v: v * x),
    "sum": tf.math.reduce_sum,
    "gradient": lambda x: tf.optimizers.SGD(0.1).apply_gradients([(x, variable())]),
    "sparse gradient": lambda x: tf.optimizers.SGD(0.1).apply_gradients(
        [(tf.IndexedSlices(x, [0, 1]), variable())]
    ),
}


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
def test_masked_arrays_are_refused(take):
    with pytest.raises((TypeError, ValueError), match=r"masked array .* \.filled\(0\)"):
        take(MASKED)


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
def test_bfloat16_says_what_to_do(take):
    torch = pytest.importorskip("torch")
    with pytest.raises((TypeError, ValueError), match=r"bfloat16: cast it first|BFloat16"):
        take(torch.ones(2, dtype=torch.bfloat16))


@pytest.mark.parametrize("take", ["Variable", "constant", "assign", "sum"])
def test_torch_parameters_are_read(take):
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    plain = np.array([3.0, 4.0], np.float32)
    ours, expected = TAKES[take](parameter), TAKES[take](plain)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(expected))


@pytest.mark.parametrize("name", ["from_dlpack", "as_tensor", "asarray", "tensor"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
def test_torch_reads_variables_and_cannot_write_to_them(name, shape):
    torch = pytest.importorskip("torch")
    value = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
    v = variable(value)
    for given in (v, v * 1):
        tensor = getattr(torch, name)(given)
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor.numpy(), value)
        tensor.mul_(2)
    np.testing.assert_array_equal(v.numpy(), value)


def test_dlpack_without_a_copy_is_read_only():
    v = variable()
    memory = np.from_dlpack(v, copy=False)
    assert not memory.flags.writeable
    v.assign([5.0, 6.0])
    np.testing.assert_array_equal(memory, [5.0, 6.0])
    copied = np.from_dlpack(v)
    v.assign([7.0, 8.0])
    np.testing.assert_array_equal(copied, [5.0, 6.0])


def test_jax_reads_variables():
    jnp = pytest.importorskip("jax.numpy")
    np.testing.assert_array_equal(np.asarray(jnp.asarray(variable())), [1.0, 2.0])
