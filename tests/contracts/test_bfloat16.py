"""Variables of bfloat16: computed in float32, rounded once, the same bits on all replicas."""

import numpy as np
import pytest

import distopt as tf
from distopt import IndexedSlices, Variable, optimizers
from distopt.checkpoint import CheckpointManager
from distopt.distribute import get_replica_context
from tests.replicated import rank

bfloat16 = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
START = [1.0, -2.0, 0.3, 100.0]


def rounded(values):
    """Float32 numbers after one rounding to bfloat16, as float32: of two to the even one."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def wide(variable):
    return variable.numpy().astype(np.float32)


def same_everywhere(found):
    assert all(one == found[0] for one in found)
    return found[0]


def trained(make, steps=20):
    v = Variable(START, dtype="bfloat16", name="v")
    optimizer = make()
    for step in range(steps):
        gradient = np.array([1.0, 0.5, -0.25, 2.0]) * (1 + step % 3)
        optimizer.apply_gradients([(gradient.astype(bfloat16), v)])
    assert v.dtype == bfloat16
    return wide(v).tolist()


def test_sgd_rounds_once_a_step(replicas):
    found = same_everywhere(replicas.run(lambda: trained(lambda: optimizers.SGD(0.01, momentum=0.9))))
    w, m = rounded(START), np.zeros(4, np.float32)
    rate, momentum = np.float32(0.01), np.float32(0.9)
    for step in range(20):
        g = np.float32([1.0, 0.5, -0.25, 2.0]) * np.float32(replicas.size * (1 + step % 3))
        w, m = rounded(w + (m * momentum - g * rate)), rounded(m * momentum - g * rate)
    assert found == w.tolist()


def test_adam_rounds_once_a_step(replicas):
    """In bfloat16, 1 - beta_2 would be 0."""
    found = same_everywhere(replicas.run(lambda: trained(lambda: optimizers.Adam(0.01))))
    one, beta_1, beta_2 = np.float32([1, 0.9, 0.999])
    w, m, v = rounded(START), np.zeros(4, np.float32), np.zeros(4, np.float32)
    for step in range(20):
        g = np.float32([1.0, 0.5, -0.25, 2.0]) * np.float32(replicas.size * (1 + step % 3))
        t = np.float32(step + 1)
        m, v = m + (g - m) * (one - beta_1), v + (g * g - v) * (one - beta_2)
        alpha = np.float32(0.01) * np.sqrt(one - beta_2**t) / (one - beta_1**t)
        w = rounded(w - (m * alpha) / (np.sqrt(v) + np.float32(1e-7)))
        m, v = rounded(m), rounded(v)
    assert found == w.tolist()
    assert abs(found[0] - 1.0) > 0.1


@pytest.mark.parametrize("aggregator", ["mean", "weighted_mean"])
def test_means_are_summed_in_float32(replicas, aggregator):
    """256 + 1 is 256 in bfloat16."""

    def program():
        v = Variable([0.0], dtype="bfloat16")
        gradient = np.array([256.0 if rank() == 0 else rank()]).astype(bfloat16)
        optimizers.SGD(1.0, gradient_aggregator=aggregator).apply_gradients([(gradient, v)])
        mean = get_replica_context().all_reduce("mean", gradient)
        assert mean.dtype == bfloat16
        return wide(v).tolist(), np.float32(mean.numpy()).tolist()

    expected = rounded([np.float32(256 + sum(range(replicas.size))) / np.float32(replicas.size)]).tolist()
    assert same_everywhere(replicas.run(program)) == ([-expected[0]], expected)


def test_collective_calls(replicas):
    def program():
        context, own = get_replica_context(), np.array([1.5, rank()]).astype(bfloat16)
        found = [
            context.all_reduce("sum", own),
            context.all_reduce("max", own),
            context.broadcast(own, root=replicas.size - 1),
            context.all_gather(own, axis=0),
            context.all_reduce("sum", np.ones(70_000, bfloat16))[-1:],
        ]
        assert {x.dtype for x in found} == {bfloat16}
        return [x.numpy().astype(float).tolist() for x in found]

    n = replicas.size
    assert same_everywhere(replicas.run(program)) == [
        [1.5 * n, sum(range(n))],
        [1.5, n - 1],
        [1.5, n - 1],
        [x for i in range(n) for x in (1.5, i)],
        [n],
    ]


def test_sparse_rows(replicas):
    def program():
        table = Variable(np.ones((6, 2)), dtype="bfloat16")
        rows = IndexedSlices(np.full((3, 2), 0.5).astype(bfloat16), np.array([0, 5, 5]))
        optimizers.SGD(0.5).apply_gradients([(rows, table)])
        return wide(table).tolist()

    expected = np.ones((6, 2))
    expected[[0, 5]] -= [[0.25 * replicas.size], [0.5 * replicas.size]]
    assert same_everywhere(replicas.run(program)) == expected.tolist()


@pytest.mark.parametrize(
    ("clip", "factor"),
    [({"clipvalue": 1.0}, None), ({"clipnorm": 1.0}, 0.2), ({"global_clipnorm": 1.0}, 0.2)],
    ids=str,
)
def test_clips(replicas, clip, factor):
    """The norm is 5, of which a square would be infinite in float16."""

    def program():
        v = Variable([0.0, 0.0], dtype="bfloat16")
        gradient = np.array([3.0, -4.0]).astype(bfloat16)
        optimizers.SGD(1.0, gradient_aggregator="mean", **clip).apply_gradients([(gradient, v)])
        return wide(v).tolist()

    clipped = np.float32([1, -1]) if factor is None else rounded(np.float32([3, -4]) * np.float32(factor))
    assert same_everywhere(replicas.run(program)) == (-clipped).tolist()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite(replicas, value):
    def program():
        v = Variable([1.0, 1.0], dtype="bfloat16")
        # Finite, and of an exponent that would be that of infinity in float16.
        last = rank() == replicas.size - 1
        bad = np.array([131072.0, value if last else 1.0]).astype(bfloat16)
        with pytest.raises(FloatingPointError, match=f"replica {replicas.size - 1}.* at \\[1\\]"):
            optimizers.SGD(1.0, on_nonfinite="raise").apply_gradients([(bad, v)])
        optimizers.SGD(1.0, on_nonfinite="skip").apply_gradients([(bad, v)])
        optimizers.SGD(1.0, on_nonfinite="raise").apply_gradients([(np.array([0, 0.5], bfloat16), v)])
        return wide(v).tolist()

    assert same_everywhere(replicas.run(program)) == [1.0, 1.0 - 0.5 * replicas.size]


def test_checkpoints_restore_the_bits(replicas, directory):
    def program(restore):
        v = Variable(START, dtype="bfloat16", name="v")
        optimizer = optimizers.Adam(0.01)
        own = {"kept": np.zeros(1, bfloat16)}
        manager = CheckpointManager(directory, variables=[v], optimizer=optimizer, own=own)
        if restore:
            assert manager.restore()
        else:
            optimizer.apply_gradients([(np.array([1, 2, 3, 4], bfloat16), v)])
            own["kept"] += bfloat16.type(rank() + 0.5)
            manager.save()
        assert own["kept"].dtype == bfloat16
        return [w.tobytes() for w in (own["kept"], v.numpy(), *optimizer.get_weights())]

    saved = replicas.run(lambda: program(False))
    assert replicas.run(lambda: program(True)) == saved


def test_gradients_of_another_dtype_are_refused(replicas):
    def program():
        v = Variable([1.0], dtype="bfloat16", name="v")
        with pytest.raises(TypeError, match=r"has dtype float32, the variable bfloat16: cast it"):
            optimizers.SGD(1.0).apply_gradients([(np.ones(1, np.float32), v)])
        return wide(v).tolist()

    assert same_everywhere(replicas.run(program)) == [1.0]


def test_variables_of_both_narrow_dtypes_and_float32_in_one_step(replicas):
    def program():
        kinds = ["bfloat16", "float16", "float32"]
        variables = [Variable([1.0, 2.0], dtype=kind, name=kind) for kind in kinds]
        optimizer = optimizers.Adam(0.125)
        for _ in range(2):
            optimizer.apply_gradients([(tf.Tensor(np.ones(2), v.dtype), v) for v in variables])
        return [wide(v).tolist() for v in variables]

    b, half, single = same_everywhere(replicas.run(program))
    np.testing.assert_allclose(b, single, rtol=2**-8)
    np.testing.assert_allclose(half, single, rtol=2**-9)
