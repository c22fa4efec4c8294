"""What optimizers over replicas are made of, and what PyTorch's constructors refuse."""

import gc
import inspect
import weakref

import pytest

torch = pytest.importorskip("torch")
dt = pytest.importorskip("distopt.torch")

from replicated import on_replicas, rank  # noqa: E402

from tests.pytorch.same_program import assert_close, assert_same, kept, loss, mlp, train  # noqa: E402

pytestmark = pytest.mark.torch

RULES = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "SparseAdam"]
every_rule = pytest.mark.parametrize("rule", RULES)


def error_of(call):
    with pytest.raises(Exception) as raised:  # noqa: PT011
        call()
    return type(raised.value), str(raised.value)


@every_rule
def test_arguments_are_those_of_torch(rule):
    """By place or name, with the same defaults."""
    theirs = list(inspect.signature(getattr(torch.optim, rule)).parameters.values())
    *own, options = inspect.signature(getattr(dt, rule)).parameters.values()
    assert options.kind is inspect.Parameter.VAR_KEYWORD
    assert [(p.name, p.kind, p.default) for p in own] == [(p.name, p.kind, p.default) for p in theirs]


@every_rule
def test_it_is_an_optimizer_of_torch(rule):
    optimizer = getattr(dt, rule)(mlp().parameters())
    assert isinstance(optimizer, (dt.Optimizer, getattr(torch.optim, rule)))
    assert isinstance(optimizer, getattr(torch.optim, rule))
    theirs = getattr(torch.optim, rule)(mlp().parameters())
    assert optimizer.defaults == theirs.defaults
    assert repr(optimizer) == repr(theirs)


BAD = [
    *[(rule, {"lr": -1.0}) for rule in RULES],
    ("SGD", {"momentum": -0.5}),
    ("SGD", {"weight_decay": -0.5}),
    ("SGD", {"nesterov": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.1, "nesterov": True}),
    ("Adam", {"betas": (1.0, 0.9)}),
    ("AdamW", {"eps": -1e-8}),
    ("Adagrad", {"initial_accumulator_value": -1}),
    ("Adadelta", {"rho": 2.0}),
    ("NAdam", {"momentum_decay": -1.0}),
    ("RMSprop", {"alpha": -0.1}),
    ("SparseAdam", {"betas": (0.9, 1.0)}),
    ("Adam", {"fused": True, "foreach": True}),
    ("Adam", {"lr": torch.tensor([0.1, 0.2])}),
    ("AdamW", {"lr": torch.tensor(0.1), "foreach": True}),
]


@pytest.mark.parametrize("case", BAD, ids=str)
def test_options_are_refused_in_torchs_words(case):
    rule, options = case
    errors = [
        error_of(lambda optim=optim: getattr(optim, rule)(mlp().parameters(), **options))
        for optim in (torch.optim, dt)
    ]
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: [],
        lambda: torch.zeros(3, requires_grad=True),
        lambda: [torch.zeros(3, requires_grad=True) * 2],
        lambda: [3.0],
        lambda: [{"params": []}, {"params": [1]}],
        lambda: [("name", torch.nn.Parameter(torch.zeros(1))), torch.nn.Parameter(torch.zeros(1))],
        lambda: [{"params": {torch.nn.Parameter(torch.zeros(1))}}],
        lambda: None,
    ],
    ids=[
        "empty",
        "tensor",
        "no leaf",
        "number",
        "number in a group",
        "mixed",
        "set in a group",
        "None",
    ],
)
def test_parameters_are_refused_in_torchs_words(make):
    errors = [error_of(lambda optim=optim: optim.SGD(make(), lr=0.1)) for optim in (torch.optim, dt)]
    assert errors[0] == errors[1]


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match=r"Adam\(\) has no argument 'learning_rate': PyTorch calls it 'lr'"):
        dt.Adam(mlp().parameters(), learning_rate=0.1)


@pytest.mark.parametrize("option", ["differentiable", "capturable"])
def test_options_that_cannot_be(option):
    with pytest.raises((ValueError, RuntimeError), match=option):
        dt.Adam(mlp().parameters(), **{option: True})


@pytest.mark.parametrize("option", [{"foreach": True}, {"foreach": False}, {"fused": True}, {"fused": False}])
def test_how_torch_would_compute_is_ignored(option):
    def program(side):
        model = mlp()
        optimizer = side.optim.AdamW(model.parameters(), lr=0.02, **option)
        train(model, optimizer, side, range(3))
        return kept(model, optimizer)

    assert_same(program, sizes=(2,))


def test_what_cannot_be_trained_is_named():
    def error(tensor, *more):
        return error_of(lambda: dt.SGD([("first", tensor), *more], lr=0.1))

    fine = "second", torch.nn.Parameter(torch.zeros(1))
    for size in (1, 2):
        kinds = on_replicas(
            size, lambda: error(torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64)), fine)
        )
        for kind, text in kinds:
            assert kind is ValueError
            assert "parameter 'first' has dtype torch.complex64" in text
    kind, text = error(torch.nn.Parameter(torch.zeros(2, device="meta")))
    assert kind is ValueError
    assert "'first' is on the meta device" in text
    kind, text = error(torch.eye(2).to_sparse().requires_grad_())
    assert kind is ValueError
    assert "'first' is sparse" in text


WAYS = {
    "module": lambda m: m,
    "parameters": lambda m: m.parameters(),
    "named parameters": lambda m: m.named_parameters(),
    "list": lambda m: list(m.parameters()),
    "list of pairs": lambda m: list(m.named_parameters()),
    "group": lambda m: [{"params": m.parameters()}],
    "groups": lambda m: [{"params": m[0].parameters()}, {"params": list(m[2].parameters()), "lr": 0.1}],
    "named group": lambda m: [{"params": m.named_parameters()}],
    "tensors in groups": lambda m: [{"params": p} for p in m.parameters()],
    "filtered": lambda m: filter(lambda p: p.requires_grad, m.parameters()),
    "sorted generator": lambda m: (p for p in m.parameters()),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_give_parameters(way):
    def program(side):
        model = mlp()
        given = WAYS[way](model)
        if way == "module" and not side.ours:
            given = model.parameters()
        optimizer = side.optim.Adam(given, lr=0.02)
        train(model, optimizer, side, range(3))
        return kept(model, optimizer)

    assert_same(program, sizes=(1, 2))


@pytest.mark.parametrize("way", WAYS)
def test_errors_name_parameters_as_the_model_does(way):
    """Seen by an error of the first step."""

    def program():
        model = mlp()
        optimizer = dt.SGD(WAYS[way](model), lr=0.1)
        loss(model, lambda x: x, 0).backward()
        if rank() == 1:
            model[2].bias.grad = None
        optimizer.step()

    with pytest.raises(Exception, match=r"2\.bias") as raised:
        on_replicas(2, program)
    assert type(raised.value).__name__ == "ReplicaMismatch"


def test_a_model_of_one_replica_that_has_the_parameters_too_changes_no_name():
    """The smallest module with all parameters gives the names, not one around it."""

    def program():
        model = mlp()
        around = torch.nn.Sequential(model, torch.nn.BatchNorm1d(2)) if rank() else None
        optimizer = dt.SGD(list(model.parameters()), lr=0.1)
        train(model, optimizer, lambda x: x, range(2))
        return around is None

    assert on_replicas(2, program) == [True, False]


@pytest.mark.parametrize("size", [1, 2])
def test_memory_is_given_back(size):
    """Neither a hook nor a name keeps a model or its optimizer alive."""

    def program():
        model = mlp()
        optimizer = dt.Adam(list(model.parameters()), lr=0.1)
        train(model, optimizer, lambda x: x, range(2))
        references = [weakref.ref(x) for x in (model, model[0].weight, optimizer)]
        del model, optimizer
        gc.collect()
        return [reference() for reference in references]

    assert on_replicas(size, program) == [[None, None, None]] * size


def test_all_get_the_values_of_replica_0():
    def program():
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.fill_(rank() + 1)
        dt.SGD(model, lr=0.1)
        return kept(model)

    for got in on_replicas(4, program):
        for name, value in got[0].items():
            assert (value == 1).all(), name


def test_memory_of_a_parameter_stays_where_it_is():
    """Views that the program holds, such as flattened weights, show the steps made since."""

    def program():
        model = mlp()
        optimizer = dt.SGD(model.parameters(), lr=0.1)
        view, weight = model[0].weight.view(-1), model[0].weight
        train(model, optimizer, lambda x: x, range(3))
        assert model[0].weight is weight
        assert view.data_ptr() == weight.data_ptr()
        assert_close(view.detach(), weight.detach().reshape(-1))

    for size in (1, 2):
        on_replicas(size, program)


def test_a_subclass_of_ones_own():
    class Halving(dt.SGD):
        def step(self, closure=None):
            result = super().step(closure)
            for group in self.param_groups:
                group["lr"] /= 2
            return result

    def program(side):
        model = mlp()
        optimizer = (Halving if side.ours else torch.optim.SGD)(model.parameters(), lr=0.1)
        for step in range(4):
            train(model, optimizer, side, [step])
            if not side.ours:
                optimizer.param_groups[0]["lr"] /= 2
        return kept(model)

    assert_same(program)


def test_two_optimizers_of_one_model():
    def program(side):
        model = mlp()
        first = side.optim.SGD(model[0].parameters(), lr=0.1)
        second = side.optim.Adam(model[2].parameters(), lr=0.05)
        for step in range(4):
            first.zero_grad()
            second.zero_grad()
            loss(model, side, step).backward()
            first.step()
            second.step()
        return kept(model, first, second)

    assert_same(program)


def test_two_optimizers_of_the_same_parameters():
    """As after warming up with another one; also in turns."""

    def program(side):
        model = mlp()
        first = side.optim.SGD(model.parameters(), lr=0.1)
        train(model, first, side, range(2))
        second = side.optim.Adam(model.parameters(), lr=0.05)
        train(model, second, side, range(2, 4))
        train(model, first, side, range(4, 6))
        train(model, second, side, range(6, 8))
        return kept(model, first, second)

    assert_same(program)
