"""A table as a picture that looks typeset: three rules, numbers aligned at the ±, the footer wrapped below."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.figure_style import DPI, FAINT, INK, Ruler, style
from results.table_layout import PrintedCell, PrintedTable

# Inches and points.
MARGIN, COLUMN_GAP, PART_GAP, LEAST_WIDTH = 0.18, 0.34, 0.05, 7.0
ROW, FOOTER_ROW, ROOM_AT_RULES, INDENT = 0.25, 0.175, 0.24, 0.14
SIZE, MARK_SIZE, FOOTER_SIZE = 11.0, 8.0, 9.0
HEAVY, LIGHT = 1.2, 0.6


@dataclass(frozen=True)
class _ColumnWidths:
    mean: float
    spread: float
    n: float
    mark: float
    head: float

    @property
    def numbers(self) -> float:
        """Width of mean, spread and n with the gaps between them; footnote letters hang out of it."""
        return self.mean + sum(PART_GAP + part for part in (self.spread, self.n) if part)

    @property
    def total(self) -> float:
        return max(self.head, self.numbers + self.mark + 0.02)


def draw_table(table: PrintedTable) -> Figure:
    """Draw a table; the figure's size follows from its text."""
    with style():
        return _Drawing(table).draw()


class _Drawing:
    def __init__(self, table: PrintedTable) -> None:
        self.table = table
        self.ruler = Ruler()
        body = [*table.rows, *([table.average] if table.average else [])]
        labels = [table.label_heads, *(words for words, _ in body)]
        self.label_widths = [
            max(self.ruler.width(text, SIZE) for text in column) for column in zip(*labels, strict=True)
        ]
        self.label_width = sum(self.label_widths) + COLUMN_GAP * (len(self.label_widths) - 1)
        self.columns = [
            self._widths(head, [cells[index] for _, cells in body]) for index, head in enumerate(table.head)
        ]
        self.inner = self.label_width + sum(COLUMN_GAP + column.total for column in self.columns)
        self.width = max(self.inner, LEAST_WIDTH)
        self.title = self.ruler.wrap(table.title, self.width, SIZE)
        self.footer = self._footer()
        self.height = (
            2 * MARGIN + (len(self.title) + 1 + len(body)) * ROW + ROOM_AT_RULES + len(self.footer) * FOOTER_ROW
        )
        self.figure = Figure(figsize=(self.width + 2 * MARGIN, self.height), dpi=DPI)
        # A narrow table stands in the middle above its footer.
        self.left = MARGIN + (self.width - self.inner) / 2

    def _widths(self, head: str, cells: Sequence[PrintedCell]) -> _ColumnWidths:
        def widest(texts: list[str], size: float = SIZE) -> float:
            return max((self.ruler.width(text, size) for text in texts), default=0.0)

        return _ColumnWidths(
            mean=widest([cell.mean for cell in cells]),
            spread=widest([cell.spread for cell in cells]),
            n=widest([cell.n for cell in cells]),
            mark=widest([cell.mark for cell in cells], MARK_SIZE),
            head=self.ruler.width(head, SIZE),
        )

    def _footer(self) -> list[tuple[str, float, str]]:
        """Wrapped lines, each with the letter that stands before it and its indent: remarks hang out of theirs."""
        lines: list[tuple[str, float, str]] = []
        for mark, text in [*self.table.footnotes, *(("", remark) for remark in self.table.remarks)]:
            for index, line in enumerate(self.ruler.wrap(text, self.width - INDENT, FOOTER_SIZE)):
                lines.append((mark if index == 0 else "", INDENT if mark or index > 0 else 0.0, line))
        return lines

    def _text(self, x: float, y: float, text: str, size: float = SIZE, align: str = "left", color: str = INK) -> None:
        width, height = self.figure.get_size_inches()
        self.figure.text(x / width, 1 - y / height, text, size=size, ha=align, va="baseline", color=color)

    def _rule(self, y: float, weight: float) -> None:
        width, height = self.figure.get_size_inches()
        ends = [self.left / width, (self.left + self.inner) / width]
        self.figure.add_artist(Line2D(ends, [1 - y / height] * 2, color=INK, linewidth=weight, solid_capstyle="butt"))

    def draw(self) -> Figure:
        """Top to bottom: title, head, rows, average, footer; y is the baseline of the line before."""
        y = MARGIN
        for line in self.title:
            y += ROW
            self._text(MARGIN + self.width / 2, y - 0.08, line, align="center")
        y += 0.06
        self._rule(y, HEAVY)
        y += ROW
        self._labels(y - 0.07, self.table.label_heads)
        for middle, head in zip(self._middles(), self.table.head, strict=True):
            self._text(middle, y - 0.07, head, align="center")
        y += 0.02
        self._rule(y, LIGHT)
        for labels, cells in self.table.rows:
            y += ROW
            self._row(y - 0.06, labels, cells)
        if self.table.average:
            y += 0.03
            self._rule(y, LIGHT)
            y += ROW
            self._row(y - 0.06, *self.table.average)
        y += 0.03
        self._rule(y, HEAVY)
        y += 0.12
        for mark, indent, line in self.footer:
            y += FOOTER_ROW
            self._text(MARGIN, y - 0.04, mark, size=MARK_SIZE - 1)
            self._text(MARGIN + indent, y, line, size=FOOTER_SIZE, color=FAINT)
        return self.figure

    def _middles(self) -> list[float]:
        middles, x = [], self.left + self.label_width
        for column in self.columns:
            middles.append(x + COLUMN_GAP + column.total / 2)
            x += COLUMN_GAP + column.total
        return middles

    def _labels(self, y: float, labels: Sequence[str]) -> None:
        x = self.left
        for label, width in zip(labels, self.label_widths, strict=True):
            self._text(x, y, label)
            x += width + COLUMN_GAP

    def _row(self, y: float, labels: Sequence[str], cells: Sequence[PrintedCell]) -> None:
        self._labels(y, labels)
        for middle, column, cell in zip(self._middles(), self.columns, cells, strict=True):
            start = middle - (column.numbers + column.mark) / 2
            end = start + column.mean
            if not (cell.spread or cell.n) and not cell.mean[-1:].isdigit():
                end = start + (column.numbers + self.ruler.width(cell.mean, SIZE)) / 2  # a dash: in the middle
            self._text(end, y, cell.mean, align="right")
            if cell.spread or cell.n:
                if column.spread:
                    end = start + column.mean + PART_GAP + column.spread
                    sign, _, number = cell.spread.partition(" ")
                    self._text(start + column.mean + PART_GAP, y, sign)
                    self._text(end, y, number, align="right")
                end += PART_GAP
                self._text(end, y, cell.n, color=FAINT)
                end += self.ruler.width(cell.n, SIZE)
            self._text(end + 0.01, y - 0.055, cell.mark, size=MARK_SIZE)
