"""Sphinx configuration."""

from __future__ import annotations

import sphinx_autosummary_accessors

import xdemsr

project = "xdemsr"
author = "The xdemsr developers"
copyright = "2026, the xdemsr developers"
version = release = xdemsr.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_autosummary_accessors",
    "sphinx_copybutton",
]
templates_path = ["_templates", sphinx_autosummary_accessors.templates_path]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "xdemsr"
# These pages are one flat list, in the header.
_PAGES = (
    "index",
    "accuracy",
    "architecture",
    "checkpoints",
    "conventions",
    "how_it_works",
    "imagery",
    "performance",
    "protocols",
    "refinement",
    "sentinel2",
    "training",
)
html_sidebars: dict[str, list[str]] = {page: [] for page in (*_PAGES, "models/*")}
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_static_path = ["_static"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# Types in signatures that belong to other projects, whose documentation is not linked here.
nitpick_ignore_regex = [
    (r"py:.*", r"(xr|xarray|pd|pandas|np|numpy|torch|nn|matplotlib|pathlib|da|dask)(\..*)?"),
    (r"py:.*", r"(Path|Axes|Figure|Hashable|Mapping|Sequence|Callable|Literal|Any)"),
]
