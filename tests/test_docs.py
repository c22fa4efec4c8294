"""The code on every page of the documentation runs and shows what is printed there."""

import inspect
import re

import pytest
from pages import PAGES, ROOT, blocks, run_page

from distopt.keras import activations, callbacks, layers, losses, metrics

WITH_CODE = [page for page in PAGES if page.startswith("docs/") and blocks(page)]
#: The pages on PyTorch models with code, by the end of their names.
TORCH = ("", "-batch-norm", "-checkpoints", "-collectives", "-data", "-gradients", "-nodes", "-optimizers")
#: Pages that need a package which the tests do without.
NEEDS = {
    **{f"docs/howto/torch{part}.md": ["torch"] for part in TORCH},
    "docs/howto/jax.md": ["jax", "optax"],
    "docs/tutorial/torch.md": ["torch"],
    "docs/tutorial/jax.md": ["jax", "optax"],
}


def marked(page):
    """The page, with the marker of what it needs."""
    return pytest.param(page, marks=getattr(pytest.mark, NEEDS[page][0])) if page in NEEDS else page


@pytest.mark.parametrize("page", [marked(page) for page in WITH_CODE])
def test_blocks_run_and_show_what_is_printed(page):
    for package in NEEDS.get(page, ()):
        pytest.importorskip(package)
    run_page(page)


def test_the_pages_with_code_are_known():
    howto = ("aggregators", "debugging", "jax", "keras", "optimizers", "sharp-bits", "stragglers", "torch")
    pages = {f"docs/howto/{name}.md" for name in howto} | set(NEEDS) | {"docs/reference/differences.md"}
    assert pages <= set(WITH_CODE)


@pytest.mark.parametrize("part", [activations, callbacks, layers, losses, metrics])
def test_the_page_on_models_names_all_that_is_shipped(part):
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs/howto/keras.md").read_text()))
    helpers = {"CallbackList", "InputSpec", "LossFunctionWrapper", "MeanMetricWrapper"}
    helpers |= {"Loss", "Metric", "Reduction", "deserialize", "get", "serialize"}
    found = {name for name in part.__all__ if inspect.isclass(getattr(part, name)) or part is activations}
    assert found - helpers <= named


def test_no_name_in_the_table_of_models_is_made_up():
    table = (ROOT / "docs/howto/keras.md").read_text().partition("## A first model")[0]
    kinds = dict(re.findall(r"^\| (\w+) \| (.*) \|$", table, re.MULTILINE))
    for kind, part in (("losses", losses), ("metrics", metrics), ("callbacks", callbacks)):
        assert set(re.findall(r"`(\w+)`", kinds[kind])) <= set(part.__all__)
    for kind, part in (("activations", activations), ("layers", layers)):
        assert set(re.findall(r"`(\w+)`", kinds[kind])) - {"Model", "Sequential"} <= set(part.__all__)
