"""Programs for PyTorch that stand on the pages as changed lines train alike before and after the change."""

import re
import textwrap

import pytest
from pages import ROOT, blocks
from replicated import on_replicas

torch = pytest.importorskip("torch")

import distopt.torch as dt  # noqa: E402

pytestmark = pytest.mark.torch
PAGES = ["README.md", "docs/howto/torch.md"]
#: All pages on PyTorch models.
HOWTO = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/howto").glob("torch*.md"))


def changed(page, number=0):
    """A program of a page that stands there as changed lines: as it was, and as it is."""
    lines = blocks(page, "diff")[number][1].splitlines()
    before, after = (
        textwrap.dedent("\n".join(line[1:] for line in lines if line[:1] in f" {sign}")) for sign in "-+"
    )
    return before, after


def load():
    """What the programs train on."""
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    return x, x.sum(dim=1, keepdim=True)


def trained(program):
    torch.manual_seed(0)
    names = {"load": load}
    exec(program, names)
    return [value.tolist() for value in names["model"].state_dict().values()]


@pytest.mark.parametrize("page", PAGES)
def test_the_changed_program_trains_as_the_old_one_does_on_all_examples(page):
    before, after = changed(page)
    expected = trained(before)
    for replicas in (1, 2):
        for found in on_replicas(replicas, lambda: trained(after)):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("page", PAGES)
def test_three_lines_are_changed(page):
    _, text = blocks(page, "diff")[0]
    assert len(re.findall(r"^\+", text, re.MULTILINE)) == 3


@pytest.mark.parametrize(("page", "number"), [("gradients", 0), ("port", 0), ("port", 1)])
def test_what_the_other_changes_lead_to_runs(page, number, tmp_path):
    """Those of clips, and of programs for DDP and Horovod, with what these programs have before them."""
    data = torch.utils.data.TensorDataset(*load())
    names = {"torch": torch, "data": data, "path": tmp_path / "saved.pt"}
    names["Net"] = lambda: torch.nn.Linear(8, 1)
    names["model"] = model = names["Net"]()
    names |= {"optimizer": dt.SGD(model), "loss": model(data[:][0]).mean()}
    exec(changed(f"docs/howto/torch-{page}.md", number)[1], names)
    if page == "port":
        assert isinstance(names["optimizer"], dt.AdamW)
        assert len(names["loader"]) == 4
        saved = torch.load(names["path"])
        assert torch.equal(saved["weight"], names["model"].weight)
    assert sum(len(blocks(name, "diff")) for name in HOWTO) == 4


def test_states_of_torchmetrics_are_gathered_by_replica():
    """By a function of the page, as torchmetrics' own does: a list of each replica's tensor."""
    text = next(text for _, text in blocks("docs/howto/torch-collectives.md") if "def gather" in text)
    names = {"torch": torch, "dt": dt}
    exec(text, names)

    def program():
        own = torch.full((dt.rank(), 2), dt.rank())
        return [names["gather"](x) for x in (torch.tensor(0.5 + dt.rank()), own)]

    assert on_replicas(1, lambda: names["over_replicas"]["distributed_available_fn"]()) == [False]
    for numbers, parts in on_replicas(3, program):
        assert [(x.shape, float(x)) for x in numbers] == [((), 0.5), ((), 1.5), ((), 2.5)]
        assert [x.tolist() for x in parts] == [[], [[1, 1]], [[2, 2], [2, 2]]]


def test_the_pages_name_all_optimizers_and_options():
    text = "".join((ROOT / page).read_text() for page in HOWTO)
    named = set(re.findall(r"`(?:dt\.)?(\w+)[`(=]", text))
    assert {name for name in dt.__all__ if name not in ("Optimizer", "StepOptions", "rank", "size")} <= named
    assert set(dt.StepOptions.__annotations__) <= set(re.findall(r"(\w+)=", text))
