"""A process that works a pack in children which kill themselves; test_resume_after_kill.py starts it.

    python killed_worker.py FOLDER DATA.hdf5 PLAN

PLAN is a JSON list: for each child the instant at which it dies, or null for one that lives to the end: a kind, a
number n, and the interval of its life from which on it counts. Kinds: `checkpoint` and `policy`, inside the n-th write
of such a file, at one of the instants it passes; `record`, inside the n-th line added to a record, torn; `evaluation`,
at the n-th environment step; `closing`, at the n-th finished run; `timer`, after n hundredths of what an undisturbed
interval took, wherever that is.
Children are forks of one process in which everything is imported and compiled: a start takes no time. Prints a JSON
list: for each child, the kind of instant that it died at ("alive" if it did not), where that was, and the step that
it went on from.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

from erdp_core import trainer
from orchestration import ledger as ledger_module
from orchestration.ledger import Ledger, RunFolder
from orchestration.pack_work import PackWork
from orchestration.plan import Run, make_plan
from tests.small import PaysForPosition, paying_environment

SETTINGS = (
    "agent.width=16",
    "agent.layers=2",
    "agent.M=3",
    "agent.batch_size=8",
    "agent.candidates=3",
    "agent.ema_from=5",
    "agent.lr_decay=cosine",
    "trainer.steps=80",
    "trainer.interval=4",
)


def runs(data: str) -> list[Run]:
    """Two seeds of one configuration."""
    plan = make_plan(
        "pointmaze",
        profile="smoke",
        source="auto",
        protocol="paper",
        tasks=["pointmaze-umaze"],
        methods=["erdp"],
        seeds=[0, 1],
        settings=SETTINGS,
        files={"pointmaze-umaze": Path(data)},
    )
    return list(plan.runs)


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    raise AssertionError("still alive")


class Death:
    """Counts instants of one kind and dies at the n-th."""

    def __init__(self, kind: str, number: int, interval_seconds: float, tell: Callable[[str], None]) -> None:
        self.kind, self.left, self.interval_seconds, self.tell = kind, number, interval_seconds, tell

    def pass_by(self, kind: str, where: str) -> None:
        if kind != self.kind:
            return
        self.left -= 1
        if self.left == 0:
            self.tell(where)
            die()

    def arm(self) -> None:
        """Put the counting where the instants are."""
        if self.kind == "never":
            return
        if self.kind == "timer":
            threading.Thread(target=self._after, daemon=True).start()
        elif self.kind == "evaluation":
            step = PaysForPosition.step

            def counted_step(environment: PaysForPosition, action: Any) -> Any:
                self.pass_by("evaluation", "environment step")
                return step(environment, action)

            PaysForPosition.step = counted_step  # type: ignore[assignment,method-assign]
        elif self.kind == "closing":
            finish = RunFolder.finish

            def counted_finish(folder: RunFolder, record: Any) -> None:
                finish(folder, record)
                self.pass_by("closing", f"after closing {folder.run_id}")

            RunFolder.finish = counted_finish  # type: ignore[assignment,method-assign]
        elif self.kind == "record":
            append = ledger_module.append_line

            def torn_append(path: Path, record: Any) -> None:
                append(path, record)
                if self.left == 1:
                    os.truncate(path, path.stat().st_size - 40)
                self.pass_by("record", path.name)

            ledger_module.append_line = torn_append
        else:
            self._arm_write()

    def _after(self) -> None:
        time.sleep(self.left / 100 * self.interval_seconds)
        self.tell("wherever it was")
        die()

    def _arm_write(self) -> None:
        """Each write of a state passes four instants: half written, before and after its flush, and renamed."""
        folder = {"checkpoint": "checkpoints", "policy": "policies"}[self.kind]
        write_file, fsync, replace = ledger_module.write_file, os.fsync, os.replace
        writing = False

        def watched_write(path: Path, content: bytes) -> None:
            nonlocal writing
            writing = path.parent.name == folder
            write_file(path, content)
            writing = False

        def watched_fsync(descriptor: int) -> None:
            if writing:
                size = os.fstat(descriptor).st_size
                if self.left == 1:
                    os.ftruncate(descriptor, size // 2)
                self.pass_by(self.kind, "half written")
                self.pass_by(self.kind, "before the flush")
            fsync(descriptor)
            if writing:
                self.pass_by(self.kind, "after the flush")

        def watched_replace(source: Any, target: Any) -> None:
            replace(source, target)
            if writing:
                self.pass_by(self.kind, "renamed")

        ledger_module.write_file = watched_write
        os.fsync = watched_fsync  # type: ignore[assignment]
        os.replace = watched_replace  # type: ignore[assignment]


def work(root: str, planned: list[Run], death: Death | None = None, interval: int = 1) -> float:
    """The pack to its end, dying from an interval on. Returns the mean seconds of its intervals."""
    started, intervals = time.perf_counter(), 0
    if death and interval == 1:
        death.arm()
    pack = PackWork(Ledger.open(root, create=True), planned, "cpu")
    if death:
        death.tell(f"{pack.trainer.step if pack.trainer else pack.steps}\n")
    while not pack.advance().done:
        intervals += 1
        if death and intervals == interval - 1:
            death.arm()
    return (time.perf_counter() - started) / (intervals + 1)


def child(root: str, planned: list[Run], death: tuple[str, int, int] | None, seconds: float) -> list[str]:
    """Fork, work, die or finish. Returns the kind of instant, where it was, and the step that it went on from."""
    kind, number, interval = death or ("never", 0, 1)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work(root, planned, Death(kind, number, seconds, lambda told: tell(writing, told)), interval)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as told:
        # A timer may strike before the pack has told its step.
        *step, where = told.read().decode().split("\n")
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return [kind, where, "".join(step)]
    if status == 0:
        return ["alive", where, "".join(step)]
    raise RuntimeError(f"a child ended with status {status}, at {death}")


def tell(descriptor: int, where: str) -> None:
    os.write(descriptor, where.encode())


def main() -> None:
    root, data, plan = sys.argv[1:]
    torch.set_num_threads(1)
    trainer.make_environment = paying_environment  # type: ignore[assignment,attr-defined]
    planned = runs(data)
    # The undisturbed run comes first: it is also what warms this process up for its children.
    seconds = work(f"{root}/undisturbed", planned)
    outcomes = [child(f"{root}/disturbed", planned, death, seconds) for death in json.loads(plan)]
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
