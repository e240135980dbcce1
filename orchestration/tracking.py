"""MLflow beside the training: fed in the background while it runs, or from a whole ledger later, by this command:

    python -m orchestration.tracking --ledger runs --tracking-uri http://localhost:5000

The ledger is complete without MLflow; see `orchestration.tracker` for what MLflow is given of it.
"""

import os
import shlex
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from erdp_core.command_line import Parser, counted, run
from erdp_core.errors import UserError
from orchestration.ledger import Ledger
from orchestration.tracker import Tracker, without_password


def default_uri(ledger: Ledger) -> str:
    """$MLFLOW_TRACKING_URI, else a SQLite database inside the ledger."""
    path = str(ledger.root / "mlflow.db").replace("%", "%25").replace("?", "%3F")
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{path}"


def fill_command(ledger: Ledger, uri: str) -> str:
    """The command that brings a tracker up to date with a ledger. A password in the URI is not shown."""
    options = ["--ledger", str(ledger.root), "--tracking-uri", without_password(uri)]
    return f"python -m orchestration.tracking {shlex.join(options)}"


class BackgroundTracker:
    """A Tracker in a thread of its own: no call waits for it or fails with it, but for `close`, which tells.

    What cannot be logged is tried again after 2 s, then 4, ... up to once a minute, as long as training goes on.
    """

    def __init__(self, ledger: Ledger, uri: str) -> None:
        """Raises UserError where the URI is none."""
        self._tracker = Tracker(ledger, uri)
        self._condition = threading.Condition()
        self._run_ids: dict[str, None] = {}
        self._artifacts: dict[str, tuple[str, Sequence[Path]]] = {}
        self._closing = False
        self._problem: str | None = None
        # A daemon: should the tracker hang, the process ends all the same.
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why the newest attempt failed, in one line; None where it did not."""
        with self._condition:
            return self._problem

    def sync(self, run_ids: Sequence[str]) -> None:
        """As `Tracker.sync`, soon."""
        with self._condition:
            self._run_ids |= dict.fromkeys(run_ids)
            self._condition.notify()

    def log_artifacts(self, plan_name: str, table: str, paths: Sequence[Path]) -> None:
        """As `Tracker.log_artifacts`, soon."""
        with self._condition:
            self._artifacts[plan_name] = (table, list(paths))
            self._condition.notify()

    def close(self, timeout: float = 30.0) -> str | None:
        """Wait until everything is logged, at most `timeout` seconds and no longer than the next failure.

        Returns None where it is, else one line: why not, and the command that fills the tracker later.
        """
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout)
        with self._condition:
            if not self._thread.is_alive() and self._problem is None:
                return None
            reason = self._problem or f"it was not done after {timeout:g} s"
        command = fill_command(self._tracker.ledger, self._tracker.uri)
        return f"MLflow does not have everything: {reason}; fill it from the ledger with: {command}"

    def compare_link(self, run_ids: Sequence[str]) -> str | None:
        """As `Tracker.compare_link`, once closed; None before, and where not everything was logged."""
        if self._thread.is_alive() or self.problem is not None:
            return None
        return self._tracker.compare_link(run_ids)

    def ui_command(self) -> str:
        """As `Tracker.ui_command`."""
        return self._tracker.ui_command()

    def _work(self) -> None:
        delay = 0.0
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closing, delay)
                self._condition.wait_for(lambda: self._closing or self._run_ids or self._artifacts)
                run_ids, self._run_ids = self._run_ids, {}
                artifacts, self._artifacts = self._artifacts, {}
            if not run_ids and not artifacts:
                return
            try:
                self._tracker.sync(list(run_ids))
                for plan_name, (table, paths) in artifacts.items():
                    self._tracker.log_artifacts(plan_name, table, paths)
            except Exception as error:  # whatever it is, training goes on, and `close` tells
                with self._condition:
                    self._problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                    self._run_ids = run_ids | self._run_ids
                    self._artifacts = artifacts | self._artifacts
                    if self._closing:
                        return
                delay = min(max(2.0, 2 * delay), 60.0)
            else:
                with self._condition:
                    self._problem = None
                delay = 0.0


def command(argv: Sequence[str] | None) -> int:
    """Bring a tracker up to date with a whole ledger; returns 0."""
    parser = Parser(
        "Fill MLflow from a ledger: what it lacks is added, what it has stays as it is.",
        "  python -m orchestration.tracking --ledger runs --tracking-uri http://localhost:5000",
    )
    parser.add_argument(
        "--ledger", metavar="DIR", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="the ledger (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    parser.add_argument(
        "--tracking-uri", metavar="URI",
        help="an MLflow server or a database (default: $MLFLOW_TRACKING_URI, else mlflow.db in the ledger)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    ledger = Ledger.open(arguments.ledger)
    tracker = Tracker(ledger, arguments.tracking_uri or default_uri(ledger))
    run_ids = [run.run_id for run in ledger.runs()]
    tracker.sync(run_ids)
    for name, plan in ledger.plans().items():
        drawn = sorted(path for path in (ledger.root / "tables" / name).glob("*") if path.is_file())
        if drawn:
            tracker.log_artifacts(name, plan["table"], drawn)
    print(f"MLflow has the {counted(len(run_ids), 'run')} of {ledger.root}: {tracker.ui_command()}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage or an unreachable tracker."""
    return run(command, argv, "what MLflow has got stays; the same command adds the rest")


if __name__ == "__main__":
    sys.exit(main())
