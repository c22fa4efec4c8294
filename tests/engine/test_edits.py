"""Variables that a replica reads in a view of its own: what it writes there is assigned at the next step."""

import mmap

import numpy as np
import pytest
from replicated import on_replicas, rank

from distopt import Variable
from distopt.comm import private_view
from distopt.comm.private_view import CopiedView, MappedView
from distopt.distribute import get_replica_context
from distopt.engine import viewed_block
from distopt.engine.step import StepEngine
from distopt.errors import ReplicaMismatch
from distopt.optimizers import SGD, Adam

PAGE = mmap.PAGESIZE // 4  # elements of float32

several = pytest.mark.parametrize("size", [2, 4])


@pytest.fixture(autouse=True, params=[MappedView, CopiedView])
def kind(request, monkeypatch):
    """Both kinds of views."""
    chosen = private_view if request.param is MappedView else CopiedView
    monkeypatch.setattr(viewed_block, "private_view", chosen)
    return request.param


class Model:
    """A replica's variables, and the views in which it reads them.

    Args:
        shapes: those of the variables, which are named a, b, c, ...
        own: added to all values on this replica before they are shared.
    """

    def __init__(self, *shapes, own=0.0, learning_rate=0.5):
        self.variables = [
            Variable(np.full(shape, 10.0 + own, "f4"), name=name)
            for name, shape in zip("abcdefgh", shapes, strict=False)
        ]
        for v in self.variables:
            v.storage.copy_on_write = True
        self.engine = StepEngine.of(get_replica_context())
        self.parameters = self.engine.parameters
        self.engine.share("share()", self.variables)
        self.views = [self.parameters.private_view(v) for v in self.variables]
        self.optimizer = SGD(learning_rate)

    def step(self, gradient=1.0, places=None):
        """A step, with this gradient for each element, divided by the number of replicas."""
        variables = self.variables if places is None else [self.variables[i] for i in places]
        gradient /= self.engine.replicas
        self.parameters.take_edits(variables)
        self.optimizer.apply_gradients([(np.full(v.shape, gradient, "f4"), v) for v in variables])
        self.parameters.discard_edits(variables)

    def edited(self):
        return [v.name[0] for v in self.parameters.edited(self.variables)]

    def values(self):
        """What the views show, as one number each; all elements must be equal."""
        assert all((view == view.flat[0]).all() for view in self.views)
        return [float(view.flat[0]) for view in self.views]


def together():
    get_replica_context().comm.barrier()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_an_update_shows_in_the_view(size):
    def program():
        model = Model((3,), (2, 5000), (), own=rank())
        seen = [model.values()]
        for _ in range(2):
            model.step()
            seen.append(model.values())
        return seen, model.edited(), [v.numpy().flat[0] for v in model.variables]

    for seen, edited, values in on_replicas(size, program):
        assert seen == [[10.0] * 3, [9.5] * 3, [9.0] * 3]
        assert edited == []
        assert values == [9.0] * 3


@several
def test_an_edit_stays_the_replicas_own_and_is_found(size):
    def program():
        model = Model((3,), (7000,), ())
        if rank() == 1:
            model.views[1][6999] = 3.0
        together()
        return model.edited(), float(model.views[1][6999]), model.variables[1].numpy()[6999]

    assert on_replicas(size, program) == [
        (["b"], 3.0, 10.0) if replica == 1 else ([], 10.0, 10.0) for replica in range(size)
    ]


@several
def test_an_edit_that_all_made_counts_once(size):
    def program():
        model = Model((3,), (7000,), (4,))
        model.step()
        model.views[1][...] = 100.0
        model.step()
        assert model.edited() == []
        assert model.parameters.assigned(model.variables) == []
        model.step()
        return model.values(), [float(v.numpy().flat[0]) for v in model.variables]

    want = [8.5, 99.0, 8.5]
    assert on_replicas(size, program) == [(want, want)] * size


@several
def test_an_edit_that_one_made_is_named_by_all_and_nothing_is_applied(size):
    def program():
        model = Model((3,), (7000,))
        model.step()
        if rank() == 1:
            model.views[1][5] += 1.0
        with pytest.raises(ReplicaMismatch, match="b:0 assigned since the last step"):
            model.step()
        return [view.flat[5 % view.size] for view in model.views], model.edited()

    assert on_replicas(size, program) == [
        ([9.5, 10.5], ["b"]) if replica == 1 else ([9.5, 9.5], []) for replica in range(size)
    ]


@several
def test_different_edits_are_named(size):
    def program():
        model = Model((3,))
        model.views[0][0] = rank()
        with pytest.raises(ReplicaMismatch, match="a:0 assigned"):
            model.step()

    on_replicas(size, program)


@several
def test_after_a_mismatch_an_edit_may_be_undone_or_made_by_all(size):
    def program():
        model = Model((3,))
        if rank() == 0:
            model.views[0][:] = 3.0
        with pytest.raises(ReplicaMismatch):
            model.step()
        if rank() == 0:
            model.views[0][:] = 10.0
        model.step()
        seen = [model.values()]
        if rank() == 0:
            model.views[0][:] = 3.0
        with pytest.raises(ReplicaMismatch):
            model.step()
        if rank() != 0:
            model.views[0][:] = 3.0
        model.step()
        return [*seen, model.values()]

    assert on_replicas(size, program) == [[[9.5], [2.5]]] * size


@several
def test_writing_what_stands_there_is_no_edit(size):
    def program():
        model = Model((3,), (5 * PAGE,))
        if rank() == 0:
            for view in model.views:
                view += 0.0
        assert model.edited() == []
        model.step()
        return model.values()

    assert on_replicas(size, program) == [[9.5, 9.5]] * size


@several
def test_a_neighbour_on_the_page_is_not_edited_and_follows(size):
    def program():
        model = Model((3,), (5,), (2,), (4 * PAGE,), (6 * PAGE + 1,))
        model.views[1][4] = 20.0
        model.views[3][-1] = 20.0
        assert model.edited() == ["b", "d"]
        model.step()
        assert model.edited() == []
        assert [float(view[-1]) for view in model.views] == [9.5, 19.5, 9.5, 19.5, 9.5]
        model.step()
        return [float(view[-1]) for view in model.views]

    assert on_replicas(size, program) == [[9.0, 19.0, 9.0, 19.0, 9.0]] * size


@pytest.mark.parametrize("bits", [0x7FC00000, 0x80000000])  # NaN, -0.0
def test_bytes_count_not_numbers(bits):
    def program():
        model = Model((3,))
        model.views[0][:] = 0.0
        model.step(gradient=0.0)
        model.views[0].view("u4")[1] = bits
        assert model.edited() == ["a"]
        model.step(gradient=0.0)
        assert model.edited() == []
        model.views[0].view("u4")[1] = bits  # as it is
        assert model.edited() == []
        return model.views[0].view("u4").tolist(), model.variables[0].numpy().view("u4").tolist()

    assert on_replicas(2, program) == [([0, bits, 0], [0, bits, 0])] * 2


@several
def test_a_parameter_over_many_pages(size):
    def program():
        model = Model((100 * PAGE + 3,))
        for place in (0, 50 * PAGE + 7, 100 * PAGE + 2):
            model.views[0][place] = 20.0
        model.step()
        return (
            model.views[0].tobytes() == model.variables[0].numpy().tobytes(),
            sorted(map(tuple, np.unique(np.round(model.views[0], 3), return_counts=True)[1:])),
            float(model.views[0][50 * PAGE + 7]),
        )

    assert on_replicas(size, program) == [(True, [(100 * PAGE, 3)], 19.5)] * size


@several
def test_edits_of_what_another_optimizer_trains_wait_for_its_step(size):
    def program():
        model = Model((3,), (5,), (2,))  # on one page
        model.views[1][:] = 20.0
        for _ in range(3):
            model.step(places=[0])
            assert [float(view[0]) for view in model.views[1:]] == [20.0, 10.0]
        model.step(places=[1, 2])
        return model.values(), model.edited()

    assert on_replicas(size, program) == [([8.5, 19.5, 9.5], [])] * size


@several
def test_an_edit_of_one_replica_does_not_disturb_steps_of_other_variables(size):
    def program():
        model = Model((3,), (5,))
        if rank() == 1:
            model.views[1][:] = 20.0
        model.step(places=[0])
        seen = model.values()
        with pytest.raises(ReplicaMismatch, match="b:0 assigned"):
            model.step()
        return seen

    assert on_replicas(size, program) == [[9.5, 20.0 if r == 1 else 10.0] for r in range(size)]


@several
def test_what_is_assigned_to_the_variable_goes_before(size):
    def program():
        model = Model((3,), (2,), (4 * PAGE,))
        model.views[0][:] = 20.0
        for v in model.variables[::2]:
            v.assign(np.full(v.shape, 30.0, "f4"))
        model.parameters.take_edits(model.variables)
        seen = [model.values()]
        model.step()
        seen.append(model.values())
        model.step()
        return [*seen, model.values()]

    want = [[30.0, 10.0, 30.0], [29.5, 9.5, 29.5], [29.0, 9.0, 29.0]]
    assert on_replicas(size, program) == [want] * size


@several
def test_new_variables_beside_edited_ones(size):
    def program():
        model = Model((3,))
        model.views[0][:] = 20.0
        later = Variable(np.full(4, 10.0 + rank(), "f4"), name="later")
        later.storage.copy_on_write = True
        model.engine.share("share()", [later])
        assert model.values() == [20.0]
        assert model.parameters.private_view(later).tolist() == [10.0] * 4
        model.variables.append(later)
        model.views.append(model.parameters.private_view(later))
        model.step()
        return model.values()

    assert on_replicas(size, program) == [[19.5, 9.5]] * size


@several
def test_variables_that_are_met_within_the_step(size):
    def program():
        model = Model((3,), (5,))
        model.views[1][:] = 20.0  # trained by nobody here
        later = Variable(np.full(4, 10.0 + rank(), "f4"), name="later")
        later.storage.copy_on_write = True
        model.variables.append(later)
        model.step(places=[0, 2])
        model.views.append(model.parameters.private_view(later))
        assert model.values() == [9.5, 20.0, 9.5]
        model.step(places=[0, 2])
        return model.values(), model.edited()

    assert on_replicas(size, program) == [([9.0, 20.0, 9.0], ["b"])] * size


@several
def test_all_kinds_of_variables_side_by_side(size):
    def program():
        model = Model((3,), (70_000,))
        plain = Variable(np.full(5, 10.0, "f4"), name="plain")
        double = Variable(np.full(5, 10.0, "f8"), name="double")
        double.storage.copy_on_write = True
        model.variables += [plain, double]
        optimizer = Adam(0.5)
        for _ in range(2):
            model.parameters.take_edits(model.variables)
            optimizer.apply_gradients([(np.ones(v.shape, v.dtype), v) for v in model.variables])
            model.parameters.discard_edits(model.variables)
        model.views.append(model.parameters.private_view(double))
        with pytest.raises(ValueError, match="'plain:0' came to shared memory without views"):
            model.parameters.private_view(plain)
        return [round(value, 4) for value in model.values()], model.views[2].dtype.name

    assert on_replicas(size, program) == [([9.0] * 3, "float64")] * size


@several
def test_a_replica_that_updates_alone_sees_its_own_copy(size):
    def program():
        model = Model((3,), (5,))
        model.views[0][:] = 20.0
        pairs = [(np.full(3, rank() + 1.0, "f4"), model.variables[0])]
        model.optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)
        own = model.parameters.private_view(model.variables[0])
        model.views[1][:] = 30.0
        model.step(places=[1])
        return own.tolist(), model.views[1].tolist()

    assert on_replicas(size, program) == [([20.0 - 0.5 * (r + 1)] * 3, [29.5] * 5) for r in range(size)]


@pytest.mark.parametrize("what", ["name", "shape", "dtype", "kind", "known"])
def test_sharing_different_variables_is_named(what):
    def program():
        engine = StepEngine.of(get_replica_context())
        odd = rank() == 1
        v = Variable(
            np.zeros(4 if odd and what == "shape" else 3, "f8" if odd and what == "dtype" else "f4"),
            name="other" if odd and what == "name" else "v",
        )
        v.storage.copy_on_write = not (odd and what == "kind")
        if what == "known":
            known = Variable(np.zeros(3, "f4"), name="v")
            known.storage.copy_on_write = True
            engine.share("share()", [known])
            v = v if odd else known
        with pytest.raises(ReplicaMismatch, match="share") as caught:
            engine.share("share()", [v])
        return str(caught.value)

    for text in on_replicas(2, program):
        words = {"name": "other:0", "shape": "[4]", "dtype": "float64", "kind": "share() on v:0"}
        assert words.get(what, "first met here: v:0") in text


def test_one_replica_needs_no_view():
    def program():
        model = Model((3,))
        assert model.views[0] is model.variables[0].storage.array
        model.views[0][:] = 20.0
        model.step()
        return model.values(), model.edited()

    assert on_replicas(1, program) == [([19.5], [])]
