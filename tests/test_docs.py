"""The code on every page of the documentation runs and shows what is printed there."""

import pytest
from pages import ROOT, blocks, run_page

PAGES = [f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")) if blocks(f"docs/{p.name}")]


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run_and_show_what_is_printed(page):
    run_page(page)


def test_the_pages_with_code_are_known():
    assert {"docs/aggregators.md", "docs/debugging.md", "docs/differences.md", "docs/sharp-bits.md"} <= set(
        PAGES
    )
