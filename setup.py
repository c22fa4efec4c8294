"""The long description: the README, with links that work where a package index shows it.

All other settings are in pyproject.toml. ``Repository`` under its ``[project.urls]`` is the base of these
links; without it they stay relative.
"""

import re
from pathlib import Path

from setuptools import setup

FOLDER = Path(__file__).parent


def description(readme: str, settings: str) -> str:
    """The text ``readme`` with absolute links, by the URL in the text ``settings`` of pyproject.toml."""
    url = re.search(r'^Repository = "(.*?)/?"$', settings, re.MULTILINE)
    if url is None:
        return readme
    return re.sub(r"\]\((?!https?:|#)", f"]({url[1]}/blob/main/", readme)


if __name__ == "__main__":
    setup(
        long_description=description(
            (FOLDER / "README.md").read_text(), (FOLDER / "pyproject.toml").read_text()
        ),
        long_description_content_type="text/markdown",
    )
