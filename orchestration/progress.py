"""How far a grid of runs is, told on the driver: a live display on a terminal, plain lines anywhere else."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_SCORES_SHOWN = 5


@dataclass
class _Pack:
    """A pack at work."""

    run_ids: tuple[str, ...]
    step: int
    steps: int
    work_per_step: float
    """Of one run."""
    steps_per_second: float | None = None
    scores: list[float] = field(default_factory=list)

    def work(self, steps: int) -> float:
        """Of so many steps of all its runs."""
        return steps * len(self.run_ids) * self.work_per_step

    @property
    def score_text(self) -> str:
        if not self.scores:
            return ""
        text = f"score {sum(self.scores) / len(self.scores):.1f}"
        if len(self.scores) > 1:
            shown = [f"{score:.1f}" for score in self.scores[:_SCORES_SHOWN]]
            text += f" ({' '.join(shown)}{' …' if len(self.scores) > _SCORES_SHOWN else ''})"
        return text


class Progress:
    """The progress of the runs that a plan needs; a context manager, fed with what happens to packs and runs.

        with Progress(total_runs=18, already_done=3, total_work=15 * 7500 * 0.8) as progress:
            progress.started("pointmaze-umaze erdp seeds 0,1", ["a", "b"], steps=7500, work_per_step=0.8)
            progress.advanced("pointmaze-umaze erdp seeds 0,1", 1500, 210.0, {"a": 45.0, "b": 60.0})
            progress.failed("b", "loss not finite at step 1700")
            progress.finished("pointmaze-umaze erdp seeds 0,1")

    Time left is what remains of all runs' work (in any unit, the same for all), at the rate measured since the first
    pack started; a pack's first interval has to end before there is any. Methods may be called from any thread.
    """

    def __init__(
        self,
        total_runs: int,
        already_done: int,
        total_work: float,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        total_runs: runs of the plan, those done included.
        already_done: runs that were finished before.
        total_work: steps times the work of a step, summed over the runs that are not done.
        console: where to; standard error unless given.
        clock: seconds.
        """
        self._total_runs = total_runs
        self._done = already_done
        self._total_work = self._remaining = total_work
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._began = clock()
        self._packs: dict[str, _Pack] = {}
        self._failed: set[str] = set()
        self._trained = 0.0
        self._rate_from: float | None = None
        self._rate_to = 0.0
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def started(
        self, name: str, run_ids: Sequence[str], *, steps: int, step: int = 0, work_per_step: float = 1.0
    ) -> None:
        """A pack goes to work on its runs, up to `steps`, from `step` where they have checkpoints."""
        with self._lock:
            self._drop(name)
            self._packs[name] = pack = _Pack(tuple(run_ids), step, steps, work_per_step)
            self._remaining -= pack.work(step)
            if self._rate_from is None:
                self._rate_from = self._clock()
            text = f"{name}: started at step {step}/{steps}; {self._counts()}"
        self._line(text)

    def advanced(self, name: str, step: int, steps_per_second: float, scores: Mapping[str, float]) -> None:
        """A pack at work finished an interval. scores: the newest of each of its runs that is well, by run id."""
        with self._lock:
            pack = self._packs[name]
            gained = pack.work(step - pack.step)
            self._remaining -= gained
            self._trained += gained
            self._rate_to = self._clock()
            pack.step, pack.steps_per_second, pack.scores = step, steps_per_second, list(scores.values())
            parts = [f"step {step}/{pack.steps}", pack.score_text, f"{steps_per_second:.0f} steps/s"]
            text = f"{name}: {', '.join(filter(None, parts))}; {self._counts()}{self._left()}"
        self._line(text)

    def finished(self, name: str) -> None:
        """The runs of a pack that are still well are done. Says nothing where none is."""
        with self._lock:
            pack = self._drop(name)
            if pack is None:
                return
            self._done += len(pack.run_ids)
            self._remaining -= pack.work(pack.steps)
            text = f"{name}: finished; {self._counts()}{self._left()}"
        self._line(text)

    def failed(self, run_id: str, reason: str) -> None:
        """A run stopped for good; the rest of its pack goes on."""
        with self._lock:
            for name, pack in list(self._packs.items()):
                if run_id in pack.run_ids:
                    pack.run_ids = tuple(other for other in pack.run_ids if other != run_id)
                    self._remaining -= (pack.steps - pack.step) * pack.work_per_step
                    if not pack.run_ids:
                        del self._packs[name]
            self._failed.add(run_id)
            text = f"{run_id} failed: {reason}; {self._counts()}"
        self.message(text)

    def interrupted(self, name: str, reason: str) -> None:
        """A pack was lost, with its process or machine; its runs wait to be started again."""
        with self._lock:
            self._drop(name)
            text = f"{name}: interrupted: {reason}; {self._counts()}"
        self.message(text)

    def message(self, text: str) -> None:
        """A line of its own."""
        line = self._stamped(text)
        # Never with the lock held: printing waits for the live display, which may be waiting for the lock.
        if self._live is not None:
            self._console.print(Text(line))
        else:
            print(line, file=self._console.file, flush=True)

    def _drop(self, name: str) -> _Pack | None:
        """Take a pack off; until it is started again, its steps are still to come."""
        pack = self._packs.pop(name, None)
        if pack is not None:
            self._remaining += pack.work(pack.step)
        return pack

    def _line(self, text: str) -> None:
        if self._live is None:
            self.message(text)

    def _stamped(self, text: str) -> str:
        readable = "".join(character if character.isprintable() else " " for character in text)
        return f"[{_clock_text(self._clock() - self._began)}] {readable}"

    def _counts(self) -> str:
        running = sum(len(pack.run_ids) for pack in self._packs.values())
        return f"runs {self._done} done, {running} running, {len(self._failed)} failed, {self._total_runs} in all"

    def _left(self) -> str:
        if self._rate_from is None or self._trained <= 0 or self._remaining <= 1e-9 * self._total_work:
            return ""
        rate = self._trained / max(self._rate_to - self._rate_from, 1e-9)
        seconds = max(0.0, self._remaining / rate - (self._clock() - self._rate_to))
        return f"; about {duration_text(seconds)} left"

    def _render(self) -> RenderableType:
        with self._lock:
            rates = [pack.steps_per_second for pack in self._packs.values() if pack.steps_per_second is not None]
            total = f"; {sum(rates):.0f} steps/s" if rates else ""
            bars = Table.grid(padding=(0, 1))
            bars.add_column(no_wrap=True)
            for name, pack in self._packs.items():
                bar = ProgressBar(total=pack.steps, completed=pack.step, width=24)
                bars.add_row(Text(name), bar, Text(f"{pack.step}/{pack.steps}"), Text(pack.score_text))
            return Group(bars, Text(self._stamped(f"{self._counts()}{total}{self._left()}")))


def _clock_text(seconds: float) -> str:
    """Hours, minutes and seconds since the start; never two parts, which could be read as either two."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"


def duration_text(seconds: float) -> str:
    """Seconds in the unit that people would take."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:,.0f} days"
