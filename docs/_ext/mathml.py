"""Equations as MathML, which browsers draw by themselves: no script, no font, nothing to fetch."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

_LOG = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Make it a choice of `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))  # type: ignore[arg-type]
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _converted(node: nodes.Element, display: str) -> str:
    """The equation as MathML; what is not understood is a warning, and with it an error of the build."""
    drawn = convert(node.astext(), display=display)
    unknown = re.search(r">\\[^<]*", drawn)
    if unknown:
        _LOG.warning("%s is not known to latex2mathml", unknown[0][1:], location=node)
    return drawn


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(_converted(node, "inline"))
    raise nodes.SkipNode


def _display(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node.get("number"):
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(_converted(node, "block") + "</div>\n")
    raise nodes.SkipNode
