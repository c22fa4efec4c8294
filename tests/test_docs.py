"""The code on every page of the documentation runs and shows what is printed there."""

import inspect
import re

import pytest
from pages import ROOT, blocks, run_page

from distopt.keras import activations, callbacks, layers, losses, metrics

PAGES = [f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")) if blocks(f"docs/{p.name}")]


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("docs/jax.md", "docs/torch.md")])
def test_blocks_run_and_show_what_is_printed(page):
    run_page(page)


@pytest.mark.torch
def test_the_blocks_of_the_page_on_pytorch_run():
    pytest.importorskip("torch")
    run_page("docs/torch.md")


@pytest.mark.jax
def test_the_blocks_of_the_page_on_jax_run():
    pytest.importorskip("jax")
    pytest.importorskip("optax")
    run_page("docs/jax.md")


def test_the_pages_with_code_are_known():
    names = (
        "aggregators",
        "debugging",
        "differences",
        "jax",
        "keras",
        "optimizers",
        "sharp-bits",
        "stragglers",
        "torch",
    )
    assert {f"docs/{name}.md" for name in names} <= set(PAGES)


@pytest.mark.parametrize("part", [activations, callbacks, layers, losses, metrics])
def test_the_page_on_models_names_all_that_is_shipped(part):
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs/keras.md").read_text()))
    helpers = {"CallbackList", "InputSpec", "LossFunctionWrapper", "MeanMetricWrapper"}
    helpers |= {"Loss", "Metric", "Reduction", "deserialize", "get", "serialize"}
    found = {name for name in part.__all__ if inspect.isclass(getattr(part, name)) or part is activations}
    assert found - helpers <= named


def test_no_name_in_the_table_of_models_is_made_up():
    table = (ROOT / "docs/keras.md").read_text().partition("## A first model")[0]
    kinds = dict(re.findall(r"^\| (\w+) \| (.*) \|$", table, re.MULTILINE))
    for kind, part in (("losses", losses), ("metrics", metrics), ("callbacks", callbacks)):
        assert set(re.findall(r"`(\w+)`", kinds[kind])) <= set(part.__all__)
    for kind, part in (("activations", activations), ("layers", layers)):
        assert set(re.findall(r"`(\w+)`", kinds[kind])) - {"Model", "Sequential"} <= set(part.__all__)
