"""HTML pages from templates: one file each, without network or scripts.

A template escapes every value that it shows, because texts of models and documents are never markup. Pages extend
`templates/base.html`, which holds the one style sheet.
"""

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

SHARED = Path(__file__).parent / "templates"
STYLE = SHARED / "style.css"


def render(template: Path, **values: Any) -> str:
    """Return the page that a template file makes of some values; it may extend the shared templates."""
    return _environment(template.parent).get_template(template.name).render(values)


@functools.cache
def _environment(folder: Path) -> Environment:
    """Return what renders the templates of a folder. It is kept: compiling a template takes longer than its use."""
    loader = FileSystemLoader([folder, SHARED])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
