"""The pages: templates with the libraries and our own scripts and styles in them."""

import base64
import json
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from lorun import __version__
from lorun.errors import extra

_ASSETS = files("lorun.report") / "assets"
_SCRIPTS = ("data.js", "theme.js", "sections.js", "provenance.js", "charts.js", "viewer.js")


def render(template: str, **context: Any) -> str:
    """A template of `assets` with its style. All that it inserts is escaped. A page loads nothing, and forbids it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("lorun.report", "assets")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(template).render(**context, version=__version__, style=_asset("page.css"))


def render_report(numbers: Mapping[str, Any], **context: Any) -> str:
    """The HTML of the report: `numbers` for its scripts, `context` for its template."""
    with extra("report", "the report page"):
        from plotly.offline import get_plotlyjs

    text = json.dumps(numbers, separators=(",", ":"), allow_nan=False)
    tables = base64.b64encode((files("itables") / "html" / "dt_bundle.js").read_bytes()).decode()
    return render(
        "page.html.j2",
        **context,
        numbers=text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
        plotly=_script(get_plotlyjs()),
        scripts=[_script(_asset(name)) for name in _SCRIPTS],
        # It imports DataTables, which is a module, from an address.
        module=_script(_asset("tables.js").replace("DATATABLES", f"data:text/javascript;base64,{tables}")),
        libraries=[
            f"plotly.js (MIT), from the Python package plotly {version('plotly')}",
            f"DataTables and jQuery (MIT), from the Python package itables {version('itables')}",
        ],
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _script(text: str) -> str:
    """JavaScript that cannot end its script element."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
