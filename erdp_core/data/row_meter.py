"""How far a collection is."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_BAR_SECONDS, _LINE_SECONDS = 0.1, 5.0


class RowMeter(Progress):
    """Rows collected so far: a bar on a terminal, a line every few seconds anywhere else; a context manager."""

    def __init__(self, name: str, rows: int, console: Console | None = None) -> None:
        """`rows`: in all; `console`: where to, standard error unless given."""
        console = console or Console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("rows, {task.fields[rate]}"), TimeRemainingColumn())
        plain = not console.is_terminal or console.is_dumb_terminal
        super().__init__(TextColumn("{task.description}"), *columns, console=console, disable=plain)
        self._name, self._rows, self._done = name, rows, 0
        self._began = self._told_at = time.monotonic()
        self._bar = self.add_task(name, total=rows, rate="")

    def collected(self, rows: int) -> None:
        """So many more rows are there."""
        self._done += rows
        now = time.monotonic()
        if self._done < self._rows and now < self._told_at + (_LINE_SECONDS if self.disable else _BAR_SECONDS):
            return
        self._told_at = now
        rate = f"{self._done / max(now - self._began, 1e-9):,.0f} a second"
        if self.disable:
            text = f"{self._name}: {self._done:,} of {self._rows:,} rows, {rate}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self.update(self._bar, completed=self._done, rate=rate)
