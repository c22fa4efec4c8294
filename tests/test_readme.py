"""The README's code runs, its smallest program is the example, and its links and commands exist."""

import re
import runpy
from importlib.metadata import metadata

import pytest
from pages import PAGES, ROOT, blocks, run_page

from distopt.distribute import VirtualStrategy

README = (ROOT / "README.md").read_text()


def test_all_blocks_run_in_order(capsys):
    names = run_page("README.md")
    assert re.match(r"1 replica\(s\): w = \[.*\], error: \d\.\de-1\d\n", capsys.readouterr().out)
    assert int(names["model"].optimizer.iterations) == 2 * 4
    w = names["tf"].Variable([0.0])
    names["optimizer"].apply_gradients([([2.0], w)])
    assert w.numpy().tolist() == pytest.approx([-0.2])


def test_all_blocks_run_on_two_replicas(capsys):
    """Each replica goes through the whole page, but for what shows a number of replicas."""
    pages = [text for _, text in blocks("README.md") if ">>>" not in text]

    def program():
        names = {}
        for text in pages:
            exec(text, names)
        w = names["tf"].Variable([0.0])
        mine = [1.0, 5.0][names["replica"].replica_id_in_sync_group]
        names["optimizer"].apply_gradients([([mine], w)])
        return w.numpy().tolist(), [v.tolist() for v in names["model"].get_weights()]

    result = VirtualStrategy(2).run(program)
    assert result[0] == pytest.approx([-0.5])  # the largest of both, at a rate of 0.1
    assert isinstance(result[1], list), "the replicas' weights differ"
    out = capsys.readouterr().out
    assert re.fullmatch(r"2 replica\(s\): w = \[.*\], error: \d\.\de-1\d\n", out)


def test_the_smallest_program_is_the_example():
    _, first = blocks("README.md")[0]
    assert first == (ROOT / "examples/plain_numpy.py").read_text()
    assert len(first.splitlines()) < 25


def test_commands_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    pages = README + (ROOT / "CONTRIBUTING.md").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)", pages)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_extras_exist():
    table = "".join(re.findall(r"^\| (`.*?) \|", README.partition("| extra |")[2], re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", table))
    assert named
    assert named <= set(metadata("distopt-mpi").get_all("Provides-Extra"))


def test_it_is_short():
    assert len(README.splitlines()) <= 120


def test_links_are_absolute_where_a_package_index_shows_it():
    setup = runpy.run_path(str(ROOT / "setup.py"))
    text = setup["description"](README, '[project.urls]\nRepository = "https://example.org/distopt"\n')
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) == len(re.findall(r"\]\(", README))
    assert all(target.startswith("https://") for target in targets)
    assert "https://example.org/distopt/blob/main/docs/tutorial/index.md" in targets
    assert setup["description"](README, "") == README


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), target
