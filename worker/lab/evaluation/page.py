"""Makes HTML pages of one file each, which open offline, in light and dark. All share base.html.j2."""

import io
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.files import replacing
from worker.pages import spelled_out, templates_in

TEXT, LINE, SOFT, FAKE, REAL, UNCERTAIN = (f"#01010{number}" for number in range(1, 7))
"""Colours to draw with. In the page they become those of the style sheet, light or dark."""

_STYLED = {TEXT: "text", LINE: "line", SOFT: "soft", FAKE: "fake", REAL: "real", UNCERTAIN: "uncertain"}
_LOOK = {"svg.fonttype": "none", "svg.hashsalt": "fakesweep", "text.color": TEXT, "axes.labelcolor": TEXT,
         "axes.edgecolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "grid.color": LINE, "axes.grid": True,
         "axes.axisbelow": True, "axes.facecolor": "none", "legend.frameon": False, "font.family": "sans-serif",
         "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip


def or_dash(value: float | None) -> str:
    """Returns a figure as all pages write it, such as an area under a curve, or a dash if there is none."""
    return "–" if value is None else f"{value:.4f}"


def write_page(template: str, output: Path, **content: Any) -> None:
    """Fills a template of this folder, which must extend base.html.j2, and replaces `output` with it.

    Templates escape everything except the Markup of inline_svg(). `|visible` spells out characters that could hide or
    reorder text.
    """
    templates = templates_in(Path(__file__).parent, visible=_visible)
    page = templates.get_template(template).render(**content, written_at=datetime.now(UTC).isoformat())
    with replacing(output, errors="backslashreplace") as file:
        file.write(page)


def inline_svg(draw: Callable[[Axes], None], label: str, *, size: tuple[float, float] = (4.2, 3.6)) -> Markup:
    """Returns an <svg> of what `draw` puts on axes of `size` inches. `label` says in words what it shows."""
    with rc_context(_LOOK):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # all figures use the same ids, but an id must be unique in a page
    for colour, name in _STYLED.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Markup('<svg role="img" aria-label="{}"').format(label) + Markup(svg.removeprefix("<svg"))  # noqa: S704


def _visible(text: object) -> str:
    """Spells out more than the report of a scan: also joiners, spaces of other widths, and unassigned characters."""
    return "".join(char if char.isprintable() else spelled_out(char) for char in str(text))
