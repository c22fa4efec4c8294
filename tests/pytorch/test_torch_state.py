"""optimizer.state and its dicts are those of torch.optim, and either side goes on with the other's."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch")
dt = pytest.importorskip("distopt.torch")

from replicated import on_replicas, rank  # noqa: E402

from tests.pytorch.same_program import (  # noqa: E402
    THEIRS,
    Side,
    assert_close,
    assert_same,
    kept,
    loss,
    mlp,
    train,
)

pytestmark = pytest.mark.torch

RULES = {
    "SGD": {"momentum": 0.9, "dampening": 0.2},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "RMSprop": {"momentum": 0.5, "centered": True, "eps": 0.1},
    "Adagrad": {"initial_accumulator_value": 0.1, "lr_decay": 0.1},
    "Adadelta": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
}
every_rule = pytest.mark.parametrize("rule", RULES)


def made(side, rule, model):
    return getattr(side.optim, rule)(model.parameters(), lr=0.02, **RULES[rule])


def saved_and_loaded(state):
    """Through a file, as torch.load reads it by default."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def sides(size):
    """Theirs, or ours on replicas: a function that runs a program there and returns replica 0's result."""
    if size == 0:
        return lambda program: program(THEIRS)
    return lambda program: on_replicas(size, lambda: program(Side(dt, slice(rank(), None, size))))[0]


@every_rule
@pytest.mark.parametrize("path", [(0, 2, 0), pytest.param((2, 1, 4), marks=pytest.mark.slow)], ids=str)
@pytest.mark.slow
def test_training_goes_on_elsewhere(rule, path):
    """With torch.optim (0) and on other numbers of replicas, through files."""

    def part(begin, start):
        def program(side):
            model = mlp()
            optimizer = made(side, rule, model)
            if start is not None:
                model.load_state_dict(start[0])
                optimizer.load_state_dict(start[1])
            train(model, optimizer, side, range(begin, begin + 4))
            return saved_and_loaded([model.state_dict(), optimizer.state_dict()])

        return program

    found = expected = None
    for i, size in enumerate(path):
        found = sides(size)(part(4 * i, found))
        expected = part(4 * i, expected)(THEIRS)
    assert_close(found, expected)


@every_rule
@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_one_state_of_a_parameter(rule, size):
    """Keys in torch's order, dtypes, shapes and devices; and what is not there before the first step."""

    def look(entry):
        return [
            [key, *([x.dtype, x.shape, x.stride()] if isinstance(x, torch.Tensor) else [type(x)])]
            for key, x in entry.items()
        ]

    def program(side):
        model = mlp()
        optimizer = made(side, rule, model)
        weight = model[0].weight
        before = [weight in optimizer.state, len(optimizer.state), look(optimizer.state[weight])]
        train(model, optimizer, side, range(2))
        return [before, [look(optimizer.state[p]) for p in model.parameters()], weight in optimizer.state]

    want = program(THEIRS)
    assert on_replicas(size, lambda: program(Side(dt, slice(rank(), None, size)))) == [want] * size


def test_state_is_empty_where_torchs_is():
    def program(side):
        model = mlp()
        optimizer = side.optim.SGD(model.parameters(), lr=0.1)
        train(model, optimizer, side, range(2))
        return [len(optimizer.state), list(optimizer.state_dict()["state"])]

    assert_same(program, sizes=(1, 2))


@pytest.mark.parametrize("rule", ["SGD", "Adam", "Adadelta"])
@pytest.mark.parametrize("edit", ["zero_", "data", "replaced", "cleared", "popped", "step", "all cleared"])
def test_edits_of_the_state_count(rule, edit):
    def program(side):
        model = mlp()
        optimizer = made(side, rule, model)
        train(model, optimizer, side, range(3))
        weight = model[0].weight
        slot = {"SGD": "momentum_buffer", "Adam": "exp_avg", "Adadelta": "acc_delta"}[rule]
        if edit == "zero_":
            optimizer.state[weight][slot].zero_()
        elif edit == "data":
            optimizer.state[weight][slot].data.zero_()
        elif edit == "replaced":
            optimizer.state[weight][slot] = torch.ones_like(weight) / 4
        elif edit == "cleared":
            optimizer.state[weight].clear()
        elif edit == "popped":
            del optimizer.state[weight]
        elif edit == "all cleared":
            optimizer.state.clear()
        elif "step" in optimizer.state[weight]:
            optimizer.state[weight]["step"].fill_(40)
        train(model, optimizer, side, range(3, 6))
        return kept(model, optimizer)

    assert_same(program)


def test_edits_add_up_between_steps():
    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)
        train(model, optimizer, side, range(3))
        for p in model.parameters():
            optimizer.state[p]["exp_avg"].mul_(0.5)
        for entry in optimizer.state.values():
            entry["exp_avg"].add_(0.25)
        shown = kept({i: optimizer.state[p]["exp_avg"] for i, p in enumerate(model.parameters())})
        saved = kept(optimizer)
        train(model, optimizer, side, range(3, 5))
        return [shown, saved, *kept(model, optimizer)]

    assert_same(program)


def test_a_state_of_ones_own_stays():
    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)
        optimizer.state["a key"] = 7
        train(model, optimizer, side, range(2))
        optimizer.state[model[0].weight]["own"] = "mine"
        for step in (2, 3, 4):
            train(model, optimizer, side, [step])
            own = optimizer.state["a key"], optimizer.state[model[0].weight]["own"]
            assert own == (7, "mine")
        del optimizer.state[model[0].weight]["own"]
        train(model, optimizer, side, [5])
        return kept(model, optimizer)

    assert_same(program, sizes=(1, 2))


def test_a_copy_goes_on_like_the_original():
    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)
        train(model, optimizer, side, range(3))
        twin, its = copy.deepcopy((model, optimizer))
        assert twin[0].weight.data_ptr() != model[0].weight.data_ptr()
        found = kept(twin, its)
        train(twin, its, side, range(3, 6))
        assert_close(kept(model, optimizer), found)
        train(model, optimizer, side, range(3, 5))
        return [*found, *kept(twin, its, model, optimizer)]

    assert_same(program)


def test_a_pickled_pair_goes_on():
    def program(side):
        model = mlp()
        optimizer = side.optim.NAdam(model.parameters(), lr=0.02)
        train(model, optimizer, side, range(3))
        twin, its = pickle.loads(pickle.dumps((model, optimizer)))
        train(twin, its, side, range(3, 6))
        return kept(model, optimizer, twin, its)

    assert_same(program)


def test_a_copied_model_is_on_its_own():
    def program(side):
        model = mlp()
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)
        train(model, optimizer, side, range(2))
        twin = copy.deepcopy(model)
        before = kept(twin)
        train(model, optimizer, side, range(2, 4))
        assert_close(kept(twin), before)
        own = side.optim.SGD(twin.parameters(), lr=0.1)
        train(twin, own, side, range(2))
        return kept(model, twin, optimizer)

    assert_same(program)


@pytest.mark.parametrize("size", [1, 2])
def test_saving_writes_no_more_than_the_model(size):
    """A view of a large shared block would be saved with the whole block."""
    wide = torch.nn.Linear(300, 300), torch.nn.Linear(300, 1)

    def length(thing):
        file = io.BytesIO()
        torch.save(thing, file)
        return len(file.getvalue())

    def program():
        model = torch.nn.Sequential(*copy.deepcopy(wide))
        optimizer = dt.Adam(model.parameters())
        model(torch.ones(1, 300)).sum().backward()
        optimizer.step()
        small = {"bias": model[1].bias}
        return [length(x) for x in (model.state_dict(), small, model[1], optimizer.state_dict())]

    model = torch.nn.Sequential(*wide)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 300)).sum().backward()
    optimizer.step()
    states = model.state_dict(), {"bias": model[1].bias}, model[1], optimizer.state_dict()
    for got in on_replicas(size, program):
        for mine, thing in zip(got, states, strict=True):
            assert mine <= length(thing) + 4096


def test_a_state_of_other_parameters_is_torchs_error():
    model = mlp()
    optimizer = dt.Adam(model.parameters())
    state = torch.optim.Adam(model[0].parameters()).state_dict()
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        optimizer.load_state_dict(state)


def test_a_state_of_another_shape_is_refused_and_changes_nothing():
    """PyTorch takes it, and fails in the next step."""

    def program():
        model = mlp()
        optimizer = dt.Adam(model.parameters())
        train(model, optimizer, lambda x: x, range(2))
        before = kept(model)
        optimizer.state[model[0].weight]["exp_avg"] = torch.zeros(2, 2)
        loss(model, lambda x: x, 2).backward()
        with pytest.raises(ValueError, match=r"'exp_avg' of parameter '0\.weight' has shape \(2, 2\)"):
            optimizer.step()
        assert_close(kept(model), before)
        optimizer.state[model[0].weight]["exp_avg"] = torch.zeros(5, 3)
        optimizer.step()

    for size in (1, 2):
        on_replicas(size, program)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("rule", ["SGD", "Adam", "RMSprop", "Adagrad"])
def test_state_that_no_option_needs_now(rule, size):
    """It comes with a state, is kept, and is used again when the options ask for it."""
    off = {"SGD": {"momentum": 0}, "RMSprop": {"centered": False}, "Adam": {"amsgrad": False}}.get(rule, {})

    def program(side):
        model = mlp()
        first = made(side, rule, model)
        train(model, first, side, range(3))
        second = made(side, rule, model)
        second.load_state_dict(first.state_dict())
        on = {key: second.param_groups[0][key] for key in off}
        second.param_groups[0].update(off)
        model[2].bias.requires_grad_(False)
        train(model, second, side, range(3, 5))
        found = kept(second)
        second.param_groups[0].update(on)
        train(model, second, side, range(5, 8))
        return [*found, *kept(model, second)]

    assert_same(program, sizes=(size,))


def test_adagrad_has_the_state_of_a_frozen_parameter():
    def program(side):
        model = mlp()
        model[0].requires_grad_(False)
        optimizer = made(side, "Adagrad", model)
        train(model, optimizer, side, range(2))
        return kept(model, optimizer)

    assert_same(program, sizes=(1, 2))


def test_a_state_without_its_steps_is_refused_until_it_is_mended():
    def program():
        model = mlp()
        optimizer = dt.Adam(model.parameters())
        train(model, optimizer, lambda x: x, range(2))
        step = optimizer.state[model[0].weight].pop("step")
        with pytest.raises(KeyError, match=r"the state of parameter '0\.weight' has no 'step'"):
            optimizer.step()
        optimizer.state[model[0].weight]["step"] = step
        optimizer.step()
        assert optimizer.state[model[0].weight]["step"] == 3

    for size in (1, 2):
        on_replicas(size, program)


def test_hooks_of_state_dicts():
    def program(side):
        model, calls = mlp(), []
        optimizer = side.optim.Adam(model.parameters(), lr=0.02)
        train(model, optimizer, side, range(2))
        optimizer.register_state_dict_pre_hook(lambda _: calls.append("pre"))
        optimizer.register_state_dict_post_hook(lambda _, state: {**state, "more": 1})
        optimizer.register_load_state_dict_pre_hook(lambda _, state: calls.append(state["more"]))
        optimizer.register_load_state_dict_post_hook(lambda _: calls.append("loaded"))
        optimizer.load_state_dict(optimizer.state_dict())
        train(model, optimizer, side, range(2, 3))
        return [calls, *kept(model, optimizer)]

    assert_same(program, sizes=(1, 2))
