"""Formulas as MathML: browsers draw it themselves, so that pages need no script and no network."""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def inline(writer: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    writer.body.append(converted(node, as_block=False))
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own."""
    writer.body.append(writer.starttag(node, "div", CLASS="math"))
    writer.body.append(converted(node, as_block=True))
    writer.body.append("</div>")
    raise nodes.SkipNode


def converted(node: nodes.Node, as_block: bool) -> str:
    """Return a formula as MathML; warn if it is not understood."""
    try:
        return str(tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        logger.warning("formula %s: %s", node.astext(), error, location=node)
        return ""


def setup(app: Any) -> dict[str, bool]:
    """Offer the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
