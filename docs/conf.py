"""Sphinx configuration."""

from __future__ import annotations

import logging
import re
import urllib.request
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import sphinx_autosummary_accessors

import xdemsr

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "xdemsr"
author = "The xdemsr developers"
copyright = "2026, the xdemsr developers"
version = release = xdemsr.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_autosummary_accessors",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates", sphinx_autosummary_accessors.templates_path]
exclude_patterns = ["_build", "conda", "gallery/*.ipynb", "gallery/*.py"]
html_theme = "pydata_sphinx_theme"
html_title = "xdemsr"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["xdemsr.css"]
html_js_files = [("wide.js", {"defer": "defer"})]
html_sidebars: dict[str, list[str]] = {"index": []}
html_theme_options = {
    "logo": {"text": "xdemsr"},
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
# Prompts and what a command says are not copied with it.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# Types in signatures that belong to other projects, which are linked where they can be reached.
nitpick_ignore_regex = [
    (r"py:.*", r"(xr|xarray|pd|pandas|np|numpy|torch|nn|matplotlib|pathlib|da|dask)(\..*)?"),
    (r"py:.*", r"(pystac|pystac_client)(\..*)?"),
    (r"py:.*", r"(Path|Axes|Figure|Hashable|Mapping|Sequence|Callable|Literal|Any)"),
]

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": "plot_",
    # Scripts that make the tables of these pages lie beside the gallery's.
    "ignore_pattern": r"(^|[/\\])(?!plot_)[^/\\]*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_srcset": ["2x"],
    "thumbnail_size": (640, 290),
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
    "capture_repr": ("_repr_html_",),
}
# What Lightning says of this machine, and of its own dependencies, is not for readers. It sets its
# level when it is imported; without it the pages can be built, but not the gallery.
with suppress(ModuleNotFoundError):
    import lightning.pytorch  # noqa: F401
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="`isinstance.treespec, LeafSpec.` is deprecated")
warnings.filterwarnings("ignore", message="The `srun` command is available")


def _inventories() -> dict[str, tuple[str, None]]:
    """Documentation of other projects to link to; none of it where there is no network."""
    sites = {
        "python": "https://docs.python.org/3/",
        "numpy": "https://numpy.org/doc/stable/",
        "xarray": "https://docs.xarray.dev/en/stable/",
        "dask": "https://docs.dask.org/en/stable/",
        "matplotlib": "https://matplotlib.org/stable/",
    }
    found = {}
    for name, site in sites.items():
        try:
            urllib.request.urlopen(f"{site}objects.inv", timeout=5).close()
        except OSError:
            break
        found[name] = (site, None)
    return found


intersphinx_mapping = _inventories()


def _public_signature(*event: object) -> tuple[object, object]:
    """Without arguments that are not for callers."""
    signature, returns = event[-2:]
    if isinstance(signature, str):
        signature = re.sub(r", _\w+(=[^,)]*)?", "", signature)
    return signature, returns


def _alias(*event: object) -> bool | None:
    """Leave out what a named tuple says of its fields, which stand among the attributes."""
    return True if str(getattr(event[3], "__doc__", "")).startswith("Alias for field") else None


def setup(app: Sphinx) -> None:
    """Keep from the API what is not for readers."""
    app.connect("autodoc-process-signature", _public_signature)
    app.connect("autodoc-skip-member", _alias)
