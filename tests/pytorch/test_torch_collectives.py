"""all_reduce, all_gather and broadcast of tensors: values, dtypes, structures, derivatives and errors."""

from collections import OrderedDict, defaultdict, namedtuple

import pytest

torch = pytest.importorskip("torch")

from replicated import on_replicas, rank  # noqa: E402

import distopt.torch as dt  # noqa: E402
from distopt.errors import ReplicaFailed, ReplicaMismatch  # noqa: E402

pytestmark = pytest.mark.torch
Pair = namedtuple("Pair", "first second")
SIZES = pytest.mark.parametrize("size", [1, 2, 3])
DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64, torch.float16, torch.bfloat16]
DTYPES += [torch.float32, torch.float64, torch.complex64, torch.complex128]


def values(size, dtype):
    """Those of each replica."""
    made = torch.arange(size * 4).reshape(size, 2, 2) % 5
    return list(made.bool() if dtype is torch.bool else made.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype):
    """As torch's own functions find for the stacked tensors."""
    size, whole = 3, torch.stack(values(3, dtype))
    exact = not (dtype.is_floating_point or dtype.is_complex)

    def program():
        mine = values(size, dtype)[rank()]
        kept = mine.clone()
        found = {op: dt.all_reduce(mine, op) for op in ("sum", "mean")}
        if not dtype.is_complex:
            found |= {op: dt.all_reduce(mine, op) for op in ("max", "min")}
        found |= {"gather": dt.all_gather(mine), "transposed": dt.all_gather(mine.t(), dim=-1)}
        found |= {"broadcast": dt.broadcast(mine, src=2)}
        assert torch.equal(mine, kept)
        return found

    expected = {
        "sum": whole.sum(0) if dtype is torch.bool else whole.sum(0, dtype=dtype),
        "mean": whole.double().mean(0) if exact else whole.mean(0),
        "max": whole if dtype.is_complex else whole.amax(0),
        "min": whole if dtype.is_complex else whole.amin(0),
        "gather": whole.flatten(0, 1),
        "transposed": whole.flatten(0, 1).t(),
        "broadcast": whole[2],
    }
    for found in on_replicas(size, program):
        for op, value in found.items():
            assert value.dtype is expected[op].dtype
            torch.testing.assert_close(value, expected[op])


@SIZES
def test_structures(size):
    """New ones of the same kinds, whose memory is nobody else's."""

    def program():
        first = torch.tensor([1.0, 2.0]) * (rank() + 1)
        number = defaultdict(list, n=3)
        value = {"b": [first, (2, 0.5, True)], "a": Pair(first[1], OrderedDict(z=first[:0], y=number))}
        found = dt.all_reduce(value)
        moved = dt.broadcast(value), dt.all_gather({"x": first})
        for tensor in (found["b"][0], moved[0]["b"][0], moved[1]["x"]):
            tensor.zero_()
        assert first.tolist() == [rank() + 1, 2 * rank() + 2]
        assert list(found) == ["b", "a"]
        assert dt.all_reduce([]) == []
        return found

    total = sum(range(1, size + 1))
    for found in on_replicas(size, program):
        assert found["b"][1] == (2 * size, 0.5 * size, size)
        assert [type(x) for x in found["b"][1]] == [int, float, int]
        assert type(found["a"]) is Pair
        assert found["a"].first == 2 * total
        assert found["a"].second["z"].shape == (0,)
        assert found["a"].second["y"] == {"n": 3 * size}
        assert found["a"].second["y"].default_factory is list


@SIZES
def test_parts_of_different_lengths_and_none(size):
    def program():
        return dt.all_gather([torch.full((rank(), 2), rank()), torch.full((2, rank()), rank())[:, :1].t()])

    rows = [r for r in range(size) for _ in range(r)]
    for first, second in on_replicas(size, program):
        assert first[:, 0].tolist() == rows
        assert second[:, 1].tolist() == list(range(1, size))


# -- derivatives
def loss_of_one(replica, size, total, mean, joined, sent):
    """A function of what calls have returned, another on each replica."""
    weights = torch.arange(1.0, joined.numel() + 1, dtype=torch.float64)
    return (replica + 1) * ((total**3).sum() + (mean**2).sum() + weights @ joined**2 + (sent**3).sum())


@SIZES
def test_derivatives_are_those_of_the_sum_of_all_losses(size):
    """First and second ones; torch itself differentiates the sum over replicas on one."""
    starts = [torch.arange(1.0, r + 3, dtype=torch.float64) / (r + 1) for r in range(size)]

    def on_one():
        xs = [x.clone().requires_grad_() for x in starts]
        pairs = [x[:2] for x in xs]
        total, joined = sum(pairs), torch.cat([x * x for x in xs])
        losses = [loss_of_one(r, size, total, total / size, joined, pairs[-1]) for r in range(size)]
        first = torch.autograd.grad(sum(losses), xs, create_graph=True)
        return first, torch.autograd.grad(sum((g**3).sum() for g in first), xs)

    def program():
        x = starts[rank()].clone().requires_grad_()
        called = dt.all_reduce({"total": x[:2], "count": 1, "flags": torch.ones(2, dtype=torch.bool)})
        sent = dt.broadcast(x[:2], src=size - 1)
        mean, joined = dt.all_reduce([x[:2]], "mean")[0], dt.all_gather(x * x)
        loss = loss_of_one(rank(), size, called["total"], mean, joined, sent)
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        return first.detach(), torch.autograd.grad((first**3).sum(), x)[0]

    firsts, seconds = on_one()
    for r, (first, second) in enumerate(on_replicas(size, program)):
        torch.testing.assert_close(first, firsts[r], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(second, seconds[r], rtol=1e-12, atol=1e-12)


def test_a_maximum_has_no_derivative():
    def program():
        x = torch.ones(2, requires_grad=True)
        assert dt.all_reduce(x.detach(), "max").tolist() == [1.0, 1.0]
        with pytest.raises(NotImplementedError, match=r"all_reduce\('max'\) has no derivative"):
            dt.all_reduce(x, "max").sum().backward()

    on_replicas(2, program)


# -- errors
ARGUMENTS = {
    "an op": (lambda: dt.all_reduce(torch.ones(2), "median"), "'median' is not a valid ReduceOp"),
    "text": (
        lambda: dt.all_reduce({"a": "text"}),
        r"all_reduce\('sum'\) takes tensors and .* got builtins.str",
    ),
    "sparse": (lambda: dt.all_reduce(torch.eye(2).to_sparse()), r"got a sparse tensor .* \.to_dense\(\)"),
    "meta": (lambda: dt.broadcast(torch.ones(2, device="meta")), r"broadcast\(src=0\) got a tensor on meta"),
    "float8": (
        lambda: dt.all_reduce(torch.ones(2).to(torch.float8_e5m2)),
        "float8_e5m2, which NumPy does not",
    ),
    "order": (lambda: dt.all_reduce(torch.ones(2) * 1j, "max"), "complex numbers, which have no order"),
    "no axis": (lambda: dt.all_gather(torch.ones(())), r"all_gather\(x\[None\]\) stacks"),
    "no replica": (lambda: dt.broadcast(torch.ones(2), src=2), "the replicas are 0 to 1"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_arguments_on_one_replica(name):
    """The other one, whose arguments are right, learns of them."""
    call, text = ARGUMENTS[name]

    def program():
        right = {"no axis": dt.all_gather, "meta": dt.broadcast, "no replica": dt.broadcast}
        with pytest.raises((TypeError, ValueError, ReplicaFailed)) as raised:
            call() if rank() else right.get(name, dt.all_reduce)(torch.ones(2))
        assert dt.all_reduce(1) == 2
        return raised

    other, own = on_replicas(2, program)
    assert other.type is ReplicaFailed
    assert own.type in (TypeError, ValueError)
    assert own.match(text)
    assert str(own.value) in str(other.value)
    assert "test_torch_collectives.py:" in str(other.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: dt.all_reduce(torch.ones(2 + rank())), "float32[3]"),
        (lambda: dt.all_reduce([torch.ones(2)] * (1 + rank())), "float32[2], float32[2]"),
        (lambda: dt.all_reduce(torch.ones(2), ["sum", "mean"][rank()]), "all_reduce('mean') of float32[2]"),
        (lambda: dt.all_gather(torch.ones(2, 2 + rank())), "float32[any, 3]"),
        (lambda: dt.broadcast(torch.ones(2).to([torch.float32, torch.int64][rank()])), "int64[2]"),
    ],
)
def test_replicas_that_differ(call, text):
    def program():
        with pytest.raises(ReplicaMismatch) as raised:
            call()
        return str(raised.value)

    found = on_replicas(2, program)
    assert found[0] == found[1]
    assert text in found[0]
    assert found[0].count("test_torch_collectives.py:") == 2


def test_metrics_over_uneven_shares():
    """Numerators and counts are summed, and then divided."""
    right = torch.arange(10) % 3 == 0

    def program():
        mine = right.tensor_split([1, 7])[rank()]
        totals = dt.all_reduce({"right": mine.sum(), "examples": len(mine)})
        return float(totals["right"] / totals["examples"])

    assert on_replicas(3, program) == [pytest.approx(0.4)] * 3
