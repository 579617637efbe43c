"""The site, built by `make docs`. Building and reading it needs no network."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]
shutil.rmtree(ROOT / "docs" / "api", ignore_errors=True)  # pages of modules that are gone

project = "LoRun suite"
author = "The LoRun suite maintainers"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "docstrings",
    "generated",
    "mathml",
]
exclude_patterns = ["_ext", "_templates"]

highlight_language = "none"  # blocks without a language are not Python
smartquotes = False  # options begin with two hyphens

html_theme = "furo"
html_title = "LoRun suite"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["equations.css"]
html_show_copyright = False
html_copy_source = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_default_options = {"exclude-members": "Name"}  # its pattern reads as a reference
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
napoleon_use_ivar = True
templates_path = ["_templates"]
