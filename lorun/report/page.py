"""The page itself: the template filled, with the libraries and our own scripts and styles inside."""

import base64
import json
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import pandas as pd

from lorun import __version__
from lorun.evaluation.metrics import METRICS
from lorun.report.crops import LIMIT, SIDE
from lorun.report.licences import Licence
from lorun.report.lines import Lines
from lorun.report.tables import Section, Table

_STYLE = "page.css"
_SCRIPTS = ("data.js", "theme.js", "sections.js", "provenance.js", "charts.js", "viewer.js")
_MODULE = "tables.js"  # imports DataTables, which is a module


def render(
    *,
    profile: str,
    rows: pd.DataFrame,
    overview: Table,
    sections: Sequence[Section],
    whole: dict[str, Table | None],
    points: list[list[dict[str, Any]]],
    curves: dict[str, list[dict[str, Any]]],
    scaling: dict[str, Any] | None,
    scaling_name: str,
    crops: list[dict[str, Any]],
    figures: list[dict[str, str | None]],
    lines: Lines,
    licences: list[Licence],
) -> str:
    """The HTML of the report. It asks for nothing outside of itself, and its policy forbids the browser to."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("lorun.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = {
        "metrics": {
            name: {"heading": m.heading, "digits": m.digits, "better": m.better} for name, m in METRICS.items()
        },
        "sections": [
            {
                "title": section.title,
                "place": f"{section.task}/{section.setting}",
                "protocol": section.protocol,
                "metrics": [metric.name for metric in section.metrics],
                "points": of,
                "crops": shown,
            }
            for section, of, shown in zip(sections, points, crops, strict=True)
        ],
        "curves": curves,
        "scaling": scaling,
        "lines": lines.records,
    }
    return environment.get_template("page.html.j2").render(
        profile=profile,
        version=__version__,
        commits=_commits(rows),
        overview=overview,
        sections=sections,
        whole=whole,
        curves=curves,
        scaling=scaling,
        scaling_name=scaling_name,
        timed=[any(point["latency"] or point["training"] for point in of) for of in points],
        crops=crops,
        figures=figures,
        licences=licences,
        side=SIDE,
        limit=LIMIT // 1_000_000,
        style=_asset(_STYLE),
        numbers=_json(numbers),
        plotly=_script(get_plotlyjs()),
        scripts=[_script(_asset(name)) for name in _SCRIPTS],
        module=_script(_asset(_MODULE).replace("DATATABLES", _data_tables())),
        libraries=[
            f"plotly.js (MIT), of the Python package plotly {version('plotly')}",
            f"DataTables and jQuery (MIT), of the Python package itables {version('itables')}",
        ],
    )


def _commits(rows: pd.DataFrame) -> list[str]:
    return sorted({str(commit) for commit in pd.concat([rows.commit, rows.trained_commit]).dropna()})


def _asset(name: str) -> str:
    return files("lorun.report").joinpath("assets", name).read_text(encoding="utf-8")


def _data_tables() -> str:
    """DataTables as an address that a module can import from."""
    bundle = files("itables").joinpath("html", "dt_bundle.js").read_bytes()
    return "data:text/javascript;base64," + base64.b64encode(bundle).decode()


def _json(value: Any) -> str:
    """JSON that may stand inside of a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _script(text: str) -> str:
    """JavaScript that cannot end the script element that it stands in."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
