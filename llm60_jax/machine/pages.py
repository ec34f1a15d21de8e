"""HTML pages from templates: one file each, without network or scripts.

A template escapes every value that it shows, because texts of models and documents are never markup. Pages extend
`templates/base.html`, which holds the one style sheet.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_SHARED = Path(__file__).parent / "templates"


def render(template: Path, **values: Any) -> str:
    """Return the page that a template file makes of some values; it may extend the shared templates."""
    loader = FileSystemLoader([template.parent, _SHARED])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template.name).render(values)
