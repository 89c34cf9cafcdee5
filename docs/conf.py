"""Sphinx configuration."""

from importlib.metadata import version as installed

project = "geomem"
author = "the geomem developers"
copyright = "2026, the geomem developers"
version = release = installed("geomem")

extensions = [
    "myst_nb",  # and with it myst_parser
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "sphinxcontrib.mermaid",
]
bibtex_bibfiles = ["references.bib"]
myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence", "deflist"]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py"]
nb_execution_mode = "off"  # outputs are stored; tests/test_notebooks.py runs the notebooks
suppress_warnings = ["config.cache"]

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "remove_config_comments": True,
    "abort_on_example_error": True,
}

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_use_rtype = False
napoleon_use_param = False  # else every N of a shape "(P, N)" links to some attribute of that name
default_role = "code"
doctest_global_setup = "import numpy as np"
doctest_test_doctest_blocks = ""  # docstrings are tested by pytest; here only the pages' own {doctest} blocks

html_theme = "furo"
html_title = "geomem"
