"""The files of a table."""

from pathlib import Path

from results.figure_style import save_figure
from results.files import write_result
from results.table_image import draw_table
from results.table_layout import laid_out
from results.table_text import to_latex, to_markdown
from results.tables import Table, long_form


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write `<name>.md`, `.csv`, `.tex` and `.png` into a folder, which is made where it is missing.

    What papers report is in the first, and in `<name>-reported.csv`.

    Raises UserError where the folder cannot be written.
    """
    paths = [folder / f"{table.name}.{ending}" for ending in ("md", "csv", "tex", "png")]
    write_result(paths[0], to_markdown(table).encode())
    write_result(paths[1], long_form(table).to_csv(index=False).encode())
    write_result(paths[2], to_latex(table).encode())
    save_figure(draw_table(laid_out(table)), paths[3])
    if table.reported is not None:
        paths.append(folder / f"{table.name}-reported.csv")
        write_result(paths[-1], table.reported.frame().to_csv(index=False).encode())
    return paths
