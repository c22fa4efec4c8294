"""Parameters of any layout, dtype and size, sparse gradients, and modules that PyTorch wraps."""

import copy

import pytest

torch = pytest.importorskip("torch")
dt = pytest.importorskip("distopt.torch")

from replicated import on_replicas  # noqa: E402

from tests.pytorch.same_program import BATCH, assert_close, assert_same, batch, kept, mlp, train  # noqa: E402

pytestmark = pytest.mark.torch
F = torch.nn.functional


def parameters_of_every_layout():
    torch.manual_seed(3)
    wide = torch.randn(4, 10)
    tensors = {
        "plain": torch.randn(3, 4),
        "transposed": torch.randn(3, 4).T,
        "gaps": torch.randn(3, 8)[:, ::2],
        "expanded by one": torch.randn(1, 4),
        "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
        "channels last": torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "scalar": torch.randn(()),
        "empty": torch.randn(0, 3),
        "one part": wide[:, 2:5],
        "another part": wide[:, 5:9],
        "offset": torch.randn(20)[7:13],
    }
    return {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_every_layout(rule):
    def program(side):
        named = parameters_of_every_layout()
        options = {"momentum": 0.9} if rule == "SGD" else {}
        optimizer = getattr(side.optim, rule)(list(named.items()), lr=0.05, **options)
        before = {name: (p.shape, p.is_contiguous()) for name, p in named.items() if "part" not in name}
        for step in range(5):
            optimizer.zero_grad()
            weights = side(batch(step))
            total = sum(((p + 0.1 * i) ** 2).sum() for i, p in enumerate(named.values()))
            (weights.mean() * total).backward()
            optimizer.step()
        for name, (shape, contiguous) in before.items():
            assert named[name].shape == shape
            assert named[name].is_contiguous() == contiguous or name == "gaps"
        states = [copy.deepcopy(optimizer.state[p]) for p in named.values()]
        return [*kept(named, optimizer), *states]

    assert_same(program)


def test_gradients_of_another_layout_than_their_parameters():
    def program(side):
        p = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
        q = torch.nn.Parameter(torch.arange(12.0).reshape(4, 3).T)
        optimizer = side.optim.Adam([p, q], lr=0.05)
        for step in range(3):
            value = side(batch(step, 3, 4)).mean(0)
            p.grad, q.grad = value.T.contiguous().T, value.contiguous()
            optimizer.step()
            p.grad = q.grad = side(batch(step, 3, 1)).mean(0).expand(3, 4)
            optimizer.step()
        return kept({"p": p, "q": q}, optimizer)

    assert_same(program)


def convolutions():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Conv2d(4, 2, 2), torch.nn.Flatten()
    )


def test_channels_last():
    def program(side):
        model = convolutions().to(memory_format=torch.channels_last)
        optimizer = side.optim.AdamW(model.parameters(), lr=0.02)
        for step in range(6):
            optimizer.zero_grad()
            x = side(batch(step, 3, 5, 5)).contiguous(memory_format=torch.channels_last)
            model(x).square().mean().backward()
            optimizer.step()
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
        state = optimizer.state[model[0].weight]["exp_avg"]
        return [state.stride(), *kept(model, optimizer)]

    assert_same(program)


def test_layout_dtype_and_data_change_between_steps():
    def program(side):
        model = convolutions()
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)
        dtype = torch.float32

        def steps(numbers):
            for step in numbers:
                optimizer.zero_grad()
                model(side(batch(step, 3, 5, 5, dtype=dtype))).square().mean().backward()
                optimizer.step()

        steps(range(3))
        model.to(memory_format=torch.channels_last)
        steps(range(3, 6))
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
        model[0].weight.data = torch.ones(4, 3, 3, 3) / 10
        model[0].bias.data.zero_()
        with torch.no_grad():
            model[2].bias.add_(1)
            model[2].weight.copy_(torch.ones(2, 4, 2, 2) / 7)
        steps(range(6, 9))
        return kept(model, optimizer)

    assert_same(program)


def test_a_model_becomes_double():
    """PyTorch's update would then mix dtypes; the state that is saved and loaded is cast to the model's."""

    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)
        train(model, optimizer, side, range(3))
        model.to(torch.float64)
        if not side.ours:
            optimizer.load_state_dict(optimizer.state_dict())
        train(model, optimizer, side, range(3, 6), torch.float64)
        return kept(model, optimizer)

    assert_same(program, tolerances={torch.float64: 1e-6})


def test_two_dtypes_in_one_model():
    def program(side):
        model = mlp()
        model[2].double()
        model.insert(2, torch.nn.Identity())
        model[2].register_forward_hook(lambda *args: args[2].double())
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)
        for step in range(5):
            optimizer.zero_grad()
            model(side(batch(step, 3))).square().mean().backward()
            optimizer.step()
        return kept(model, optimizer)

    assert_same(program, tolerances={torch.float32: 1e-5, torch.float64: 1e-5})


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    ("rule", "options"), [("SGD", {}), ("Adagrad", {"lr_decay": 0.1}), ("SparseAdam", {})], ids=str
)
def test_sparse_gradients(rule, options):
    def program(side):
        torch.manual_seed(0)
        table = torch.nn.Embedding(20, 3, sparse=True)
        optimizer = getattr(side.optim, rule)(table.parameters(), lr=0.05, **options)
        for step in range(8):
            optimizer.zero_grad()
            rows = (side(batch(step, 4)).abs() * 5).long().clamp(max=19)
            table(rows).square().sum(-1).mean().backward()
            assert table.weight.grad.is_sparse
            optimizer.step()
        return kept(table, optimizer)

    assert_same(program)


@pytest.mark.parametrize(
    "rule", ["Adam", "AdamW", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam", "Adagrad", "SGD"]
)
def test_sparse_gradients_are_refused_in_torchs_words(rule):
    options = {"weight_decay": 0.1} if rule in ("Adagrad", "SGD") else {}

    def refused(optim):
        table = torch.nn.Embedding(5, 3, sparse=True)
        optimizer = getattr(optim, rule)(table.parameters(), lr=0.05, **options)
        table(torch.tensor([1, 1, 3])).sum().backward()
        before = table.weight.detach().clone()
        with pytest.raises(RuntimeError) as raised:
            optimizer.step()
        assert (table.weight == before).all()
        return str(raised.value)

    text = refused(torch.optim)
    for size in (1, 2):
        for own in on_replicas(size, lambda: refused(dt)):
            # SGD's are about the sum of a sparse and a dense tensor.
            assert (text if rule != "SGD" else "SGD with weight_decay=0.1 does not support sparse") in own


def test_sgd_with_momentum_refuses_sparse_gradients():
    """PyTorch takes them, and keeps a sparse buffer that grows with every row ever used."""
    table = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = dt.SGD(table.parameters(), lr=0.1, momentum=0.9)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=r"SGD with momentum=0\.9 does not support sparse"):
        optimizer.step()


def test_sparse_adam_refuses_dense_gradients():
    model = mlp()
    optimizer = dt.SparseAdam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    with pytest.raises(
        RuntimeError, match="SparseAdam does not support dense gradients, please consider Adam"
    ):
        optimizer.step()


def test_a_dense_and_a_sparse_gradient_in_one_model():
    def program(side):
        torch.manual_seed(0)
        table, head = torch.nn.Embedding(10, 3, sparse=True), torch.nn.Linear(3, 2)
        optimizers = [side.optim.SparseAdam(table.parameters()), side.optim.Adam(head.parameters())]
        for step in range(5):
            for optimizer in optimizers:
                optimizer.zero_grad()
            rows = (side(batch(step)).abs() * 5).long().clamp(max=9)
            head(table(rows)).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
        return kept(table, head, *optimizers)

    assert_same(program)


@pytest.mark.parametrize("names", ["known", "unknown"])
def test_a_compiled_module_is_compiled_once(names):
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def program(side):
        model = mlp()
        compiled = torch.compile(model, backend=backend)
        optimizer = side.optim.Adam(compiled.parameters() if names == "known" else list(model.parameters()))
        train(compiled, optimizer, side, range(5))
        return kept(model, optimizer)

    assert_same(program, sizes=(1,))
    assert len(graphs) == 1  # for both


@pytest.mark.filterwarnings("ignore:.*Dynamo:UserWarning")
@pytest.mark.slow
def test_a_compiled_step():
    """torch.compile() leaves step() as it is."""

    def program(side):
        torch.compiler.reset()
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)

        def step(x):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

        if side.ours:
            step = torch.compile(step, backend="eager")
        for i in range(3):
            step(side(batch(i, 3)))
        return kept(model, optimizer)

    assert_same(program, sizes=(2,))


def test_functional_call():
    def program(side):
        model = mlp()
        named = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
        optimizer = side.optim.Adam(named.values(), lr=0.02)
        for step in range(5):
            optimizer.zero_grad()
            torch.func.functional_call(model, named, side(batch(step, 3))).square().mean().backward()
            optimizer.step()
        return kept(named, optimizer)

    assert_same(program)


@pytest.mark.parametrize("kind", ["weight_norm", "orthogonal", "spectral_norm"])
def test_parametrized_weights(kind):
    def program(side):
        model = mlp()
        getattr(torch.nn.utils.parametrizations, kind)(model[0])
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)
        train(model, optimizer, side, range(5))
        return kept(dict(model.named_parameters()), optimizer)

    assert_same(program, sizes=(1, 2) if kind == "weight_norm" else (1,))


def test_lazy_modules_are_initialized_before():
    lazy = torch.nn.LazyLinear(2)
    with pytest.raises(ValueError, match=r"uninitialized|Uninitialized"):
        dt.SGD(lazy.parameters(), lr=0.1)

    def program(side):
        torch.manual_seed(0)
        lazy = torch.nn.LazyLinear(2)
        torch.manual_seed(0)
        lazy(torch.ones(BATCH, 3))
        optimizer = side.optim.SGD(lazy.parameters(), lr=0.1)
        train(lazy, optimizer, side, range(2))
        return kept(lazy)

    assert_same(program, sizes=(1, 2))


def test_a_model_of_many_layers():
    """Recurrence, attention, normalization and convolution in one model, by its own initialization."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = torch.nn.Conv1d(3, 8, 2)
            self.recurrent = torch.nn.LSTM(8, 8, batch_first=True)
            self.attention = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            self.norm = torch.nn.LayerNorm(8)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, x):
            x = self.convolution(x).transpose(1, 2)
            return self.head(self.norm(self.attention(self.recurrent(x)[0])).mean(1))

    def program(side):
        torch.manual_seed(0)
        model = Model().double()
        optimizer = side.optim.AdamW(model.parameters(), lr=1e-3)
        for step in range(4):
            optimizer.zero_grad()
            x, y = (
                side(batch(step + i, *shape, dtype=torch.float64)) for i, shape in enumerate([(3, 6), (2,)])
            )
            F.mse_loss(model(x), y).backward()
            optimizer.step()
        return kept(model)

    assert_same(program, tolerances={torch.float64: 1e-9})


def test_one_storage_behind_two_parameters_is_no_longer_shared():
    """Where a parameter is moved into the node's memory, its storage's other views stay behind."""

    def program():
        wide = torch.zeros(6)
        a, b = torch.nn.Parameter(wide[:3]), torch.nn.Parameter(wide[3:])
        optimizer = dt.SGD([a, b], lr=1.0)
        (a.sum() + 2 * b.sum()).backward()
        optimizer.step()
        assert_close([a.detach(), b.detach()], [torch.full((3,), -1.0), torch.full((3,), -2.0)])

    for size in (1, 2):
        on_replicas(size, program)
