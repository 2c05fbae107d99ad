"""The site: `make docs` builds it from these pages, without network."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "dataplane"
author = "dataplane maintainers"
project_copyright = author
extensions = ["myst_parser", "sphinx_copybutton", "policy_reference", "repository_links", "timing_diagrams"]
exclude_patterns = ["extensions", "static"]

html_theme = "furo"
html_title = "dataplane"
html_static_path = ["static"]
html_show_sourcelink = False
html_copy_source = False
# Nothing is asked of other hosts.
html_theme_options = {"sidebar_hide_name": False}

myst_enable_extensions = ["attrs_inline", "deflist"]
myst_heading_anchors = 3
copybutton_prompt_text = r"\$ |# "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
