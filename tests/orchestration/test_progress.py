"""Plain lines where nobody watches, a live display on a terminal, and a time left that is measured."""

import io
import re
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from orchestration.progress import Progress

PACK = "pointmaze-umaze erdp seeds 0,1,2"
OTHER = "pointmaze-large erdp seed 0"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Plain:
    """A progress that writes to a file, and the lines it wrote."""

    def __init__(self, total_runs: int, already_done: int, total_work: float) -> None:
        self.clock, self.file = Clock(), io.StringIO()
        console = Console(file=self.file, width=40)
        self.progress = Progress(total_runs, already_done, total_work, console=console, clock=self.clock)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_one_plain_line_an_interval() -> None:
    plain = Plain(18, 3, 15 * 7500)
    with plain.progress as progress:
        progress.started(PACK, ["a", "b", "c"], steps=7500)
        plain.clock.now += 42
        progress.advanced(PACK, 3000, 214.3, {"a": 45.0, "b": 60.0, "c": 110.04})
    # 9,000 of 112,500 steps in 42 s: 483 s for the rest.
    assert plain.lines == [
        f"[0:00:00] {PACK}: started at step 0/7500; runs 3 done, 3 running, 0 failed, 18 in all",
        f"[0:00:42] {PACK}: step 3000/7500, score 71.7 (45.0 60.0 110.0), 214 steps/s; "
        "runs 3 done, 3 running, 0 failed, 18 in all; about 8 min left",
    ]


def test_time_left_weighs_steps_by_their_work() -> None:
    plain = Plain(2, 0, 100 * 0.9 + 100 * 0.1)
    with plain.progress as progress:
        progress.started("dear", ["a"], steps=100, work_per_step=0.9)
        plain.clock.now += 900
        progress.advanced("dear", 100, 1.0, {"a": 1.0})
        assert plain.lines[-1].endswith("; about 2 min left")
        progress.finished("dear")
        progress.started("cheap", ["b"], steps=100, work_per_step=0.1)
        plain.clock.now += 100
        progress.advanced("cheap", 100, 1.0, {"b": 1.0})
    assert "left" not in plain.lines[-1]


def test_plain_lines_have_no_control_characters() -> None:
    plain = Plain(2, 0, 200)
    with plain.progress as progress:
        progress.started(PACK, ["a", "b"], steps=100)
        progress.advanced(PACK, 50, 10.0, {"a": 1.0, "b": 2.0})
        progress.failed("b", "\x1b[31mloss\nnot finite\x1b[0m [bold]")
        progress.interrupted(PACK, "worker\tdied\r\n")
        progress.finished(PACK)
        progress.message("done\x07")
    text = plain.file.getvalue()
    assert all(character.isprintable() for line in text.split("\n") for character in line)
    assert len(plain.lines) == 5
    assert "[bold]" in plain.lines[2]


def test_runs_are_counted_through_failures_and_retries() -> None:
    plain = Plain(6, 1, 500)
    counts = []

    def note(told: Callable[[], None]) -> None:
        told()
        found = re.search(r"runs (\d+) done, (\d+) running, (\d+) failed, 6 in all", plain.lines[-1])
        assert found is not None
        counts.append(tuple(int(number) for number in found.groups()))

    with plain.progress as progress:
        note(lambda: progress.started(PACK, ["a", "b", "c"], steps=100))
        note(lambda: progress.started(OTHER, ["d"], steps=100))
        note(lambda: progress.advanced(PACK, 50, 10.0, {"a": 1.0, "b": 2.0, "c": 3.0}))
        note(lambda: progress.failed("b", "loss not finite at step 60"))
        note(lambda: progress.interrupted(PACK, "the node is gone"))
        note(lambda: progress.started(PACK, ["a", "c"], step=50, steps=100))
        note(lambda: progress.advanced(PACK, 100, 10.0, {"a": 1.0, "c": 3.0}))
        note(lambda: progress.finished(PACK))
        note(lambda: progress.failed("d", "loss not finite at step 7"))
        said = len(plain.lines)
        progress.finished(OTHER)
        assert len(plain.lines) == said
    assert counts == [
        (1, 3, 0), (1, 4, 0), (1, 4, 0), (1, 3, 1), (1, 1, 1), (1, 3, 1), (1, 3, 1), (3, 1, 1), (3, 0, 2),
    ]  # fmt: skip


def left(plain: Plain) -> str | None:
    found = re.search(r"about (.*) left$", plain.lines[-1])
    return found and found[1]


def test_time_left_is_what_remains_at_the_measured_rate() -> None:
    plain = Plain(4, 0, 4000)
    with plain.progress as progress:
        plain.clock.now += 600  # starting Ray and loading data is no training
        progress.started(PACK, ["a", "b"], steps=1000)
        assert left(plain) is None
        plain.clock.now += 10
        progress.advanced(PACK, 500, 50.0, {"a": 0.0, "b": 0.0})
        assert left(plain) == "30 s"  # 1000 of 4000 in 10 s
        plain.clock.now += 10
        progress.advanced(PACK, 1000, 50.0, {"a": 0.0, "b": 0.0})
        progress.finished(PACK)
        assert left(plain) == "20 s"
        # What a checkpoint already had is not training of now, and not to be trained either.
        progress.started(OTHER, ["c", "d"], step=900, steps=1000)
        plain.clock.now += 1
        progress.advanced(OTHER, 950, 50.0, {"c": 0.0, "d": 0.0})
        assert left(plain) == "1 s"  # 100 steps at 2100 in 21 s
        progress.failed("c", "loss not finite")
        progress.advanced(OTHER, 1000, 50.0, {"d": 0.0})
        assert left(plain) is None


def test_a_lost_pack_has_its_steps_to_train_again() -> None:
    plain = Plain(1, 0, 1000)
    with plain.progress as progress:
        progress.started(PACK, ["a"], steps=1000)
        plain.clock.now += 10
        progress.advanced(PACK, 500, 50.0, {"a": 0.0})
        progress.interrupted(PACK, "the node is gone")
        progress.started(PACK, ["a"], step=250, steps=1000)
        plain.clock.now += 5
        progress.advanced(PACK, 500, 50.0, {"a": 0.0})
        assert left(plain) == "10 s"  # 750 steps in 15 s, 500 to go


@pytest.mark.parametrize(
    ("seconds", "text"), [(80, "80 s"), (600, "10 min"), (4 * 3600, "4.0 h"), (40 * 86400, "40 days")]
)
def test_durations(seconds: int, text: str) -> None:
    plain = Plain(1, 0, seconds + 1)
    with plain.progress as progress:
        progress.started(PACK, ["a"], steps=seconds + 1)
        plain.clock.now += 1
        progress.advanced(PACK, 1, 1.0, {"a": 0.0})
    assert left(plain) == text


def test_many_scores_are_cut_off_but_all_in_the_mean() -> None:
    plain = Plain(8, 0, 800)
    run_ids = [str(number) for number in range(8)]
    with plain.progress as progress:
        progress.started(PACK, run_ids, steps=100)
        progress.advanced(PACK, 50, 10.0, {run_id: float(run_id) for run_id in run_ids})
        assert "score 3.5 (0.0 1.0 2.0 3.0 4.0 …)" in plain.lines[-1]
        progress.advanced(PACK, 60, 10.0, {})
        assert "score" not in plain.lines[-1]


def terminal(clock: Clock) -> Console:
    file, variables = io.StringIO(), {"TERM": "xterm"}
    return Console(
        file=file, force_terminal=True, width=120, height=30, record=True, legacy_windows=False, _environ=variables
    )


def test_a_terminal_gets_a_live_display() -> None:
    clock = Clock()
    console = terminal(clock)
    with Progress(5, 1, 400, console=console, clock=clock) as progress:
        progress.started(PACK, ["a", "b", "c"], steps=100)
        progress.started(OTHER, ["d"], steps=100)
        clock.now += 10
        progress.advanced(PACK, 50, 70.0, {"a": 10.0, "b": 20.0, "c": 30.0})
        progress.advanced(OTHER, 50, 30.0, {"d": 7.0})
        progress.message("look [here]")
        progress.failed("b", "loss not finite at step 51")
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[" in console.file.getvalue()
    shown = console.export_text()
    assert "[0:00:10] look [here]" in shown
    assert "b failed: loss not finite at step 51" in shown
    *_, pack, other, status = shown.rstrip().splitlines()
    assert re.search(rf"{PACK} +━.* 50/100 +score 20\.0 \(10\.0 20\.0 30\.0\) *$", pack)
    assert re.fullmatch(rf"{OTHER} +━.* 50/100 +score 7\.0 *", other)
    assert status.rstrip() == "[0:00:10] runs 1 done, 3 running, 1 failed, 5 in all; 100 steps/s; about 8 s left"


def test_the_display_ends_with_an_error_inside() -> None:
    console = terminal(Clock())

    def interrupted() -> None:
        with Progress(1, 0, 100, console=console) as progress:
            progress.started(PACK, ["a"], steps=100)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_messages_from_several_threads_and_the_display_do_not_block_each_other() -> None:
    clock = Clock()
    with Progress(400, 0, 400, console=terminal(clock), clock=clock) as progress:

        def feed(worker: int) -> None:
            for number in range(50):
                name = f"{worker}-{number}"
                progress.started(name, [name], steps=1)
                progress.failed(name, "no")

        threads = [threading.Thread(target=feed, args=(worker,), daemon=True) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
