"""An Optuna study that outlives its drivers: what one that died had proposed, the next one takes up.

Proposals come in batches, whose runs train together. The sampler is seeded anew for each batch, by how many trials
there are: a search that was interrupted proposes what it would have proposed without.
"""

import fcntl
import os
import re
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.importance import get_param_importances
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from erdp_core.command_line import user_path
from erdp_core.errors import UserError
from orchestration.ledger import Record, write_file
from orchestration.tracker import without_password
from sweeps.search_space import Range

FIRST_TRIALS = 4
"""What is proposed first, then drawn at random; all of them trained to the end."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
STATES = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "started",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Proposal:
    """A trial, and the settings that it proposes."""

    trial: Trial
    settings: tuple[str, ...]
    """`agent.alpha=0.01234`"""

    @property
    def label(self) -> str:
        """As `trial_label`."""
        return trial_label(self.trial.number, self.settings)


def trial_label(number: int, settings: Sequence[str]) -> str:
    """For people: `trial 3, alpha = 0.01234`."""
    return f"trial {number}, {settings_text(settings)}"


def settings_text(settings: Sequence[str]) -> str:
    """`alpha = 0.01234, beta = 2`"""
    pairs = (setting.partition("=") for setting in settings)
    return ", ".join(f"{key.rpartition('.')[2]} = {value}" for key, _, value in pairs)


def open_storage(place: str) -> BaseStorage:
    """Where a study is kept: a journal file, or `postgresql://...`.

    Raises UserError where it cannot be used, and for SQLite, which loses what several drivers write at once.
    """
    if re.match(r"sqlite(\+\w+)?:", place):
        raise UserError(f"--storage {place}: SQLite is not made for several drivers: name a journal file or Postgres")
    if "://" in place:
        with storage_errors(place, ImportError, ValueError, RuntimeError):
            return RDBStorage(place, engine_kwargs={"pool_pre_ping": True})
    path = user_path(place).absolute()
    with storage_errors(place, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_journal = _mended(path)
    try:
        if is_journal:
            return JournalStorage(JournalFileBackend(str(path)))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError):  # Optuna checks nothing
        pass
    raise UserError(f"--storage {place} is no journal of a search: name another file")


def _mended(path: Path) -> bool:
    """Whether a file is a journal, or is not there. The end of a line that was not written whole is taken off.

    Optuna would write the next line right behind it, and could read neither.
    """
    if not path.exists():
        return True
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        content = path.read_bytes()
        is_journal = not content or content.startswith(b'{"op_code"')
        if is_journal:
            os.truncate(path, content.rfind(b"\n") + 1)
        return is_journal
    finally:
        lock.release()


@contextmanager
def storage_errors(place: str, *kinds: type[Exception]) -> Iterator[None]:
    """What a database tells within this, and errors of other kinds, is a UserError about the storage."""
    expected: tuple[type[Exception], ...] = (SQLAlchemyError, OptunaError, *kinds)
    try:
        yield
    except expected as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"--storage {without_password(place)} cannot be used ({reason})") from None


class Study:
    """One search, shared by any number of drivers; a context manager, within which this driver holds its trials.

    A driver holds a lock on a file of its own: the system gives it up when the process ends, however it ends.
    """

    def __init__(self, name: str, storage: BaseStorage, ranges: Sequence[Range], drivers: Path) -> None:
        """drivers: a folder that all drivers share, for their locks.

        Raises UserError where the storage has the study of other drivers, whose locks are elsewhere.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.ranges = tuple(ranges)
        self._study = optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            pruner=MedianPruner(n_startup_trials=FIRST_TRIALS),
            load_if_exists=True,
        )
        self._drivers = drivers
        with self._alone():
            self._check_is_shared()
        self._token = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lock: int | None = None

    def _check_is_shared(self) -> None:
        """Raise UserError unless the study is this folder's: drivers of another one would take one another for dead."""
        name = self._drivers / "name"
        if not name.exists():
            write_file(name, uuid.uuid4().hex.encode())
        own = name.read_text()
        if "drivers" not in self._study.user_attrs:
            self._study.set_user_attr("drivers", own)
        if self._study.user_attrs["drivers"] != own:
            raise UserError(
                f"--storage has the search {self._study.study_name} of another ledger: name that one with --ledger, or "
                "another storage"
            )

    def __enter__(self) -> Self:
        self._lock = self._taken(self._token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._give_up(self._token, self._lock)
            self._lock = None

    def _path(self, token: str) -> Path:
        return self._drivers / f"{token}.lock"

    def _taken(self, token: str) -> int | None:
        """A driver's lock, as this process's now; None where that driver is alive."""
        lock = os.open(self._path(token), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def _give_up(self, token: str, lock: int) -> None:
        self._path(token).unlink(missing_ok=True)
        os.close(lock)

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        return sorted(self._study.get_trials(deepcopy=False), key=lambda trial: trial.number)

    def propose_first(self, values: Mapping[str, float]) -> None:
        """Have the first trial propose these values, of all ranges, unless there are trials already."""
        with self._alone():
            if not self.trials:
                self._study.enqueue_trial(dict(values))

    def batch(self, size: int, trials: int) -> list[Proposal]:
        """The next proposals, `size` at most and `trials` in all; first those whose drivers died. Empty at the end."""
        with self._alone():
            taken = self._adopted(size)
            begun = sum(trial.state != TrialState.WAITING for trial in self.trials)
            self._study.sampler = TPESampler(
                n_startup_trials=FIRST_TRIALS, multivariate=True, constant_liar=True, seed=begun
            )
            for _ in range(min(size - len(taken), trials - begun)):
                trial = self._study.ask()
                trial.set_user_attr("driver", self._token)
                taken.append(trial)
            return [self._proposal(trial) for trial in taken]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other driver takes up trials within this."""
        self._drivers.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._drivers / "batch.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _adopted(self, size: int) -> list[Trial]:
        """Trials under way whose drivers are no more, as this driver's."""
        found: list[Trial] = []
        tokens = {str(one.user_attrs.get("driver", "")) for one in self.trials if one.state == TrialState.RUNNING}
        for token in sorted(tokens - {self._token}):
            lock = self._taken(token)
            if lock is None:
                continue
            theirs = [one for one in self.trials if one.user_attrs.get("driver", "") == token]
            for one in [one for one in theirs if one.state == TrialState.RUNNING][: size - len(found)]:
                trial = Trial(self._study, one._trial_id)
                trial.set_user_attr("driver", self._token)
                found.append(trial)
            self._give_up(token, lock)
        return found

    def _proposal(self, trial: Trial) -> Proposal:
        settings = tuple(one.proposed(trial) for one in self.ranges)
        trial.set_user_attr("settings", list(settings))
        return Proposal(trial, settings)

    def report(self, proposal: Proposal, step: int, value: float) -> None:
        """The value of a trial at a step; what is known already stays."""
        known = next(one for one in self.trials if one.number == proposal.trial.number).intermediate_values
        if step not in known:
            proposal.trial.report(value, step)

    def is_hopeless(self, proposal: Proposal) -> bool:
        """Whether the best that a trial reported is below the median of the finished ones, at its last step."""
        return proposal.trial.should_prune()

    def add_hours(self, proposal: Proposal, hours: float) -> None:
        """What a trial's training took more."""
        proposal.trial.set_user_attr("hours", proposal.trial.user_attrs.get("hours", 0.0) + hours)

    def finish(self, proposal: Proposal, value: float) -> None:
        """A trial came to its end with this value."""
        self._study.tell(proposal.trial, value)

    def prune(self, proposal: Proposal) -> None:
        """A trial was given up, its last value being what it reported last."""
        self._study.tell(proposal.trial, state=TrialState.PRUNED)

    def fail(self, proposal: Proposal, reason: str) -> None:
        """A trial came to nothing."""
        proposal.trial.set_user_attr("failure", reason)
        self._study.tell(proposal.trial, state=TrialState.FAIL)

    @property
    def at_work(self) -> int:
        """Trials that other drivers are at."""
        return sum(
            trial.state == TrialState.RUNNING and trial.user_attrs.get("driver") != self._token for trial in self.trials
        )

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial of the largest value, the earliest of equals; None where none has finished."""
        finished = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return max(finished, key=lambda trial: (trial.value, -trial.number)) if finished else None

    def importances(self) -> dict[str, float]:
        """How well each setting tells the best trials from the others (PED-ANOVA), as shares of all of them.

        Empty where there is nothing to compare.
        """
        values = {trial.value for trial in self.trials if trial.state == TrialState.COMPLETE}
        if len(self.ranges) < 2 or len(values) < FIRST_TRIALS:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of `normalize`
            found = get_param_importances(self._study, normalize=False)
        total = sum(found.values())
        return {name: value / total for name, value in found.items()} if total > 0 else {}

    def record(self) -> list[Record]:
        """Every trial as plain values: number, state, settings, params, value, reports by step, hours, failure."""
        return [
            {
                "number": trial.number,
                "state": STATES[trial.state],
                "settings": trial.user_attrs.get("settings", []),
                "params": _plain(trial.params),
                "value": trial.value if trial.state == TrialState.COMPLETE else None,
                "reports": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
                "hours": trial.user_attrs.get("hours", 0.0),
                "failure": trial.user_attrs.get("failure"),
            }
            for trial in self.trials
        ]


def _plain(params: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in params.items()}
