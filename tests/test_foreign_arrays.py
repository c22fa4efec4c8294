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


def sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    return [kind(np.ones((1, 2), np.float32)) for kind in (sparse.csr_matrix, sparse.coo_array)]


def model():
    made = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
    made.compile("sgd", "mse")
    return made


@pytest.mark.parametrize(
    "use",
    [
        lambda matrix: tf.Variable(matrix),
        lambda matrix: variable().assign(matrix),
        lambda matrix: tf.optimizers.SGD().apply_gradients([(matrix, variable())]),
        lambda matrix: model().fit(matrix, np.ones((1, 1)), verbose=0),
        lambda matrix: model().fit(np.ones((1, 2)), matrix, verbose=0),
        lambda matrix: model().predict(matrix),
        lambda matrix: model()(matrix),
    ],
)
def test_sparse_matrices_are_told_to_become_arrays(use):
    for matrix in sparse_matrices():
        with pytest.raises((TypeError, ValueError), match=r"convert it with \.toarray\(\)"):
            use(matrix)


@pytest.mark.parametrize("dtype", [">f4", "<f4"])
def test_gradients_of_any_byte_order(dtype):
    v = variable([0.0, 0.0])
    gradient = np.array([1.0, -2.0], dtype)
    tf.optimizers.SGD(1.0).apply_gradients([(gradient, v)])
    assert v.numpy().tolist() == [-1.0, 2.0]
    assert gradient.tolist() == [1.0, -2.0]
    assert v.dtype.isnative


@pytest.mark.parametrize("value", [{1.0, 2.0}, {0: 1.0}, object()])
def test_what_is_no_array_at_all_is_not_told_to_be_cast(value):
    with pytest.raises(TypeError, match=r"gradient of variable .* cannot be read as an array") as error:
        tf.optimizers.SGD().apply_gradients([(value, variable())])
    assert "astype" not in str(error.value)


LAID_OUT = {
    "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "negative strides": lambda a: a[::-1].copy()[::-1],
    "column by column": np.asfortranarray,
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "big-endian": lambda a: a.astype(">f4"),
}


@pytest.mark.parametrize("layout", LAID_OUT)
def test_layouts_of_memory_do_not_matter(layout):
    lay_out = LAID_OUT[layout]
    value = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert tf.Variable(lay_out(value)).numpy().tolist() == value.tolist()
    v = variable(np.zeros((4, 2), np.float32))
    v.assign(lay_out(value))
    assert v.numpy().tolist() == value.tolist()
    tf.optimizers.SGD(1.0).apply_gradients([(lay_out(value), v)])
    assert not v.numpy().any()
    made = model()
    y = value[:, :1]
    want = made.predict(value), made.evaluate(value, y, verbose=0)
    assert np.array_equal(made.predict(lay_out(value)), want[0])
    assert made.evaluate(lay_out(value), lay_out(y), verbose=0) == want[1]
    made.fit(lay_out(value), lay_out(y), verbose=0)
