"""A table as Markdown (also what a terminal shows) and as LaTeX."""

import re
from collections.abc import Sequence

from results.table_layout import PrintedCell, PrintedTable, laid_out
from results.tables import GAP, Table, number


def to_markdown(table: Table) -> str:
    """A table whose columns also line up in a terminal, its footer below, then what papers report."""
    text = markdown_of(laid_out(table))
    if table.reported is None:
        return text
    printed_rows = [["task", *(escape_markdown(method) for method in table.reported.methods)]] + [
        [
            escape_markdown(task),
            *(number(of_task[method]) if method in of_task else GAP for method in table.reported.methods),
        ]
        for task, of_task in table.reported.scores.items()
    ]
    notes = [f"- {escape_markdown(line)}" for line in table.reported.caption]
    return "\n".join([text, "**Reported in papers**", "", *_lined_up(printed_rows, labels=1), "", *notes]) + "\n"


def escape_markdown(text: str) -> str:
    """Text whose special characters Markdown shows as they are."""
    return re.sub(r"[\\|<*]", r"\\\g<0>", text)


def markdown_of(printed: PrintedTable) -> str:
    """A table in words as Markdown."""

    def row(labels: Sequence[str], cells: Sequence[PrintedCell]) -> list[str]:
        numbers = [cell.text + (f" [{cell.mark}]" if cell.mark else "") for cell in cells]
        return [*map(escape_markdown, labels), *numbers]

    rows = [[*printed.label_heads, *map(escape_markdown, printed.head)], *(row(*one) for one in printed.rows)]
    if printed.average:
        rows.append(row(*printed.average))
    footer = [f"- [{mark}] {escape_markdown(gap)}" for mark, gap in printed.footnotes]
    footer += [f"- {escape_markdown(line)}" for line in printed.remarks]
    lines = _lined_up(rows, labels=len(printed.label_heads))
    return "\n".join([f"**{escape_markdown(printed.title)}**", "", *lines, "", *footer]) + "\n"


def _lined_up(rows: Sequence[Sequence[str]], labels: int) -> list[str]:
    """Markdown lines of a table, its head first; columns after the labels are numbers."""
    widths = [max(3, *(len(row[index]) for row in rows)) for index in range(len(rows[0]))]
    lines = [
        "| "
        + " | ".join([*map(str.ljust, row[:labels], widths[:labels]), *map(str.rjust, row[labels:], widths[labels:])])
        + " |"
        for row in rows
    ]
    rules = [*("-" * (width + 2) for width in widths[:labels]), *("-" * (width + 1) + ":" for width in widths[labels:])]
    lines.insert(1, "|" + "|".join(rules) + "|")
    return lines


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "±": r"$\pm$", "—": "---",
}  # fmt: skip


def escape_latex(text: str) -> str:
    """Text whose special characters LaTeX prints as they are; hyphens in a row stay hyphens."""
    pieces = re.split("(?<=-)(?=-)", text)
    return "{}".join("".join(_LATEX.get(character, character) for character in piece) for piece in pieces)


def to_latex(table: Table) -> str:
    """As `latex_of`."""
    return latex_of(laid_out(table), table.name)


def latex_of(printed: PrintedTable, name: str) -> str:
    """A table float with booktabs' rules, made as narrow as a line, its footer in a minipage; needs graphicx too."""

    def minus(number: str) -> str:
        return f"$-${number[1:]}" if re.match(r"-\d", number) else number

    def row(labels: Sequence[str], cells: Sequence[str]) -> str:
        return "  " + " & ".join([*map(escape_latex, labels), *cells]) + r" \\"

    def numbers(cells: Sequence[PrintedCell]) -> list[str]:
        return [
            minus(escape_latex(cell.text)) + (rf"\textsuperscript{{{cell.mark}}}" if cell.mark else "")
            for cell in cells
        ]

    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table}[t]",
        r"  \centering",
        rf"  \caption{{{escape_latex(printed.title)}}}",
        rf"  \label{{tab:{re.sub('[^A-Za-z0-9-]+', '-', name)}}}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"  \begin{{tabular}}{{{'l' * len(printed.label_heads)}{'r' * len(printed.head)}}}",
        r"  \toprule",
        row(printed.label_heads, [escape_latex(head) for head in printed.head]),
        r"  \midrule",
        *(row(labels, numbers(cells)) for labels, cells in printed.rows),
    ]
    if printed.average:
        labels, cells = printed.average
        lines += [r"  \midrule", row(labels, numbers(cells))]
    footer = [rf"\textsuperscript{{{mark}}} {escape_latex(gap)}" for mark, gap in printed.footnotes]
    footer += [escape_latex(line) for line in printed.remarks]
    lines += [
        r"  \bottomrule",
        r"  \end{tabular}}",
        "",
        r"  \medskip",
        r"  \begin{minipage}{\linewidth}\footnotesize\raggedright",
        *(f"  {line}\\par" for line in footer),
        r"  \end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
