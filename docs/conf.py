"""How Sphinx builds the site: ``make docs`` writes it to out/docs/index.html."""

from __future__ import annotations

import sys
from importlib.metadata import metadata
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

project = "distopt"
version = release = metadata("distopt-mpi")["Version"]
html_title = f"distopt {version}"
language = "en"

# Links to files of the repository that are not pages lead to the URL in pyproject.toml. Without one they lead
# from out/docs/ back into the clone.
urls = dict(url.split(", ", 1) for url in metadata("distopt-mpi").get_all("Project-URL", []))
repository = f"{urls['Repository']}/blob/main" if "Repository" in urls else "../../.."
myst_url_schemes = {
    "http": None,
    "https": None,
    "repository": f"{repository}/{{{{path}}}}",
}

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference_pages"]
exclude_patterns = ["error_cases"]

# A link to a heading is checked as well: page.md#heading.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]  # tables of errors begin with a second-level heading

# Every cross-reference in a docstring must lead somewhere. Names of types are left out: those of NumPy,
# PyTorch and JAX are documented elsewhere, and a build needs no network.
nitpicky = True
nitpick_ignore_regex = [("py:(class|obj|data|exc|attr)", ".*")]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_depth": 2,
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
    "footer_start": [],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
