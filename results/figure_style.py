"""How every figure of the project looks, and how it becomes a file."""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from erdp_core.agent_configs import METHODS
from results.files import write_result

DPI = 200
CAPTION_ROW, CAPTION_SIZE = 0.165, 9.0
INK = "#1a1a1a"
FAINT = "#6b6b6b"
GRID = "#dddddd"

STYLE: Any = {
    "font.family": ["STIXGeneral", "DejaVu Serif"],
    "mathtext.fontset": "stix",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.7,
    "lines.markersize": 4,
    "savefig.facecolor": "white",
    "figure.facecolor": "white",
    # The same figure has the same bytes.
    "svg.hashsalt": "erdp-bench",
}

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow (too faint on white).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"


def method_styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each method, the same in every figure for the methods of this version."""
    order = dict.fromkeys([*METHODS, *methods])
    looks = {
        method: {
            "color": PALETTE[index % len(PALETTE)],
            # Those that share a colour differ in their marker.
            "marker": MARKERS[(index + index // len(PALETTE)) % len(MARKERS)],
        }
        for index, method in enumerate(order)
    }
    return {method: looks[method] for method in methods}


class Ruler:
    """Measures text in the style's font; use within `style()`."""

    def __init__(self) -> None:
        canvas: Any = FigureCanvasAgg(Figure(dpi=DPI))
        self._renderer = canvas.get_renderer()

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        """Width of one line, inches."""
        if not text:
            return 0.0
        font = FontProperties(size=size, weight=weight)
        width, _, _ = self._renderer.get_text_width_height_descent(text, font, ismath=False)
        return float(width) / DPI

    def wrap(self, text: str, width: float, size: float) -> list[str]:
        """Lines of at most `width` inches; a single word that is wider stands alone."""
        lines: list[str] = []
        for word in text.split():
            if lines and self.width(f"{lines[-1]} {word}", size) <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines


def panels(
    down: int, across: int, wide: float, high: float, lines: Sequence[str], margin: float = 0.3, title: float = 0.32
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels of so many inches, `margin` apart and with room for titles, and lines of text below."""
    width = across * (wide + margin) + margin
    text = [part for line in lines for part in Ruler().wrap(line, width - 2 * margin, CAPTION_SIZE)]
    foot = CAPTION_ROW * len(text) + 0.25
    height = down * (high + margin + title) + foot
    figure = Figure(figsize=(width, height))
    axes = [
        [
            figure.add_axes(
                (
                    (margin + column * (wide + margin) + 0.1) / width,
                    (foot + (down - 1 - row) * (high + margin + title) + margin) / height,
                    (wide - 0.1) / width,
                    high / height,
                )
            )
            for column in range(across)
        ]
        for row in range(down)
    ]
    for index, part in enumerate(text):
        y = (foot - 0.2 - CAPTION_ROW * index) / height
        figure.text(margin / width, y, part, fontsize=CAPTION_SIZE, color=FAINT, va="top")
    return figure, axes


def style() -> AbstractContextManager[None]:
    """A context in which figures are drawn and saved in the project's style."""
    return matplotlib.rc_context(STYLE)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure in the format that the path ends in. Raises UserError where the file cannot be written."""
    # Without a date, the same figure has the same bytes.
    metadata = {"Date": None} if path.suffix == ".svg" else None
    content = io.BytesIO()
    with style():
        figure.savefig(content, format=path.suffix[1:], dpi=DPI, metadata=metadata)
    return write_result(path, content.getvalue())
