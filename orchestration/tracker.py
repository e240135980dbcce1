"""MLflow, fed from the ledger: one writer, on the driver; what is there already is never logged again.

An experiment holds the runs of one domain (`pointmaze`, `gym`, ...): a parent run for each cell without its seed
(`pointmaze-umaze erdp`), below it a child run for each seed (`... seed 0`). Both are found by tags, `erdp.group` and
`erdp.run_id`, hashes of what determines the result, so that a run is there once however often, from however many
drivers, and however late the same ledger is fed. A run that several tables share has a tag `table.<plan>` for each.

Children have the metrics `score`, `score_one_candidate`, `steps_per_second` (of the pack) and the losses' means over
each interval, at the training step. Parents have `score_mean`, `score_std` (sample standard deviation, from two seeds
on) and `seeds`: over their finished runs, of each run's last evaluation.
"""

import json
import math
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from erdp_core.errors import UserError
from orchestration import tracked_run
from orchestration.ledger import Ledger, Record, RunFolder
from orchestration.tracked_run import Point
from orchestration.tracker_database import lay_out

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow reads these when it is imported. It is kept quiet, calls nobody but the tracker, and gives up early: what
# could not be logged is tried again here, or filled in later from the ledger. Failures are told by TrackerError.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "PGCONNECT_TIMEOUT": "5",
}
_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_MLFLOW_STATUS = {"started": "RUNNING", "pruned": "KILLED", "finished": "FINISHED", "failed": "FAILED"}
_CONFLICTS = ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers where something was made, or deleted, since it was looked for."""
_BATCH = 900
"""Metrics logged at once; MLflow takes at most 1000."""
_LONGEST_NAME, _LONGEST_TAG = 250, 5000


class TrackerError(UserError):
    """The tracker cannot be reached, or refuses."""


def without_password(uri: str) -> str:
    """A URI that may be shown."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # no URI: nothing of it is shown
        return "***"
    if parts.password is None:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


@dataclass
class _Remote:
    """What the tracker holds of one MLflow run."""

    mlflow_id: str
    experiment_id: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]

    @staticmethod
    def of(run: "Run") -> "_Remote":
        info, data = run.info, run.data
        return _Remote(
            info.run_id, info.experiment_id, info.status, dict(data.params), dict(data.tags), dict(data.metrics)
        )


@dataclass
class _Group:
    """A parent run and its children by run id."""

    experiment_id: str
    parent: _Remote | None = None
    children: dict[str, _Remote] = field(default_factory=dict)
    logged: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of each child, the last step that `score` and `steps_per_second` have."""


class Tracker:
    """Brings MLflow up to date with a ledger. Not for use by several threads.

    uri: an MLflow server (http, https) or a database (sqlite:///PATH, postgresql://...).
    Raises UserError for any other; nothing is imported or connected before the first `sync`.
    """

    def __init__(self, ledger: Ledger, uri: str) -> None:
        self.ledger = ledger
        self.uri = uri
        try:
            parts = urlsplit(uri)
        except ValueError:
            parts = urlsplit("")
        scheme = parts.scheme.split("+")[0]
        if (scheme == "sqlite" and not parts.path.strip("/")) or scheme not in (*_SERVERS, *_DATABASES):
            raise UserError(
                f"{without_password(uri)!r} is no tracking URI: name a server (http://HOST:PORT) or a database "
                "(sqlite:////ABSOLUTE/PATH.db) with --tracking-uri"
            )
        # Now, and not when MLflow is first needed: Ray imports it too.
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._is_server = scheme in _SERVERS
        self._links: dict[str, tuple[str, str]] = {}
        self._records: dict[str, Record] = {}
        self._forget()

    def _forget(self) -> None:
        """Drop what is believed of the tracker, so that the next call asks it anew."""
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._groups: dict[str, _Group] = {}
        self._seen: dict[str, tuple[object, object]] = {}
        self._plans_seen: object = None
        self._tables: dict[str, list[str]] = {}
        self._pruned: set[str] = set()

    def sync(self, run_ids: Sequence[str]) -> None:
        """Log what the ledger has of these runs and the tracker has not. Raises TrackerError where that fails."""
        self._bring_about(lambda: self._sync(run_ids))

    def log_artifacts(self, plan_name: str, table: str, paths: Sequence[Path]) -> None:
        """Keep a plan's drawn table and figures with a run named after it; files of the same names are replaced.

        table: names the experiment. Raises TrackerError where that fails.
        """
        self._bring_about(lambda: self._log_artifacts(plan_name, table, paths))

    def compare_link(self, run_ids: Sequence[str]) -> str | None:
        """The page that compares these runs, None where none of them has been synced.

        For a server the whole address; for a database the part that follows the address of the UI.
        """
        linked = [self._links[run_id] for run_id in run_ids if run_id in self._links]
        if not linked:
            return None
        runs = json.dumps([mlflow_id for _, mlflow_id in linked], separators=(",", ":"))
        experiments = json.dumps(list(dict.fromkeys(experiment for experiment, _ in linked)), separators=(",", ":"))
        page = f"/#/compare-runs?runs={quote(runs, safe='')}&experiments={quote(experiments, safe='')}"
        return self._server_address() + page if self._is_server else page

    def ui_command(self) -> str:
        """The command that shows a database in the browser; for a server, its address."""
        if self._is_server:
            return self._server_address()
        return f"mlflow ui --backend-store-uri {shlex.quote(without_password(self.uri))}"

    def _server_address(self) -> str:
        parts = urlsplit(self.uri)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")

    def _bring_about(self, work: Callable[[], None]) -> None:
        """Every failure as one line; after one, nothing of what was believed of the tracker holds.

        Two drivers at once may make the same experiment, or the same run, of which the later to look keeps one. Who
        is told so looks anew.
        """
        from mlflow.exceptions import MlflowException

        for may_look_anew in (True, True, False):
            try:
                return work()
            except BaseException as error:
                self._forget()
                if may_look_anew and isinstance(error, MlflowException) and error.error_code in _CONFLICTS:
                    continue
                if isinstance(error, (MlflowException, OSError)):
                    raise self._failure(error) from error
                raise

    def _failure(self, error: BaseException) -> TrackerError:
        while (cause := error.__cause__ or error.__context__) is not None:
            error = cause
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return TrackerError(f"the MLflow tracker {without_password(self.uri)} cannot be used ({reason})")

    def _connected(self) -> "MlflowClient":
        if self._client is None:
            from mlflow import MlflowClient

            try:
                if not self._is_server:
                    # MLflow tries a database for 100 s before it gives up: see first whether it answers at all.
                    from mlflow.store.db.utils import create_sqlalchemy_engine

                    engine = create_sqlalchemy_engine(self.uri)
                    engine.connect().close()
                    if engine.dialect.name == "sqlite":
                        with closing(engine.raw_connection()) as connection:
                            lay_out(connection.driver_connection)
                    engine.dispose()
                self._client = MlflowClient(tracking_uri=self.uri)
            except Exception as error:  # a driver's own errors, or that it is not installed
                raise self._failure(error) from error
        return self._client

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self._connected().get_experiment_by_name(name)
            if found is None:
                place = None if self._is_server else (self.ledger.root / "mlflow-artifacts" / name).as_uri()
                self._experiments[name] = self._connected().create_experiment(name, artifact_location=place)
            elif found.lifecycle_stage != "active":
                raise TrackerError(
                    f"the MLflow experiment {name!r} of {without_password(self.uri)} was deleted: restore it with "
                    f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
                )
            else:
                self._experiments[name] = found.experiment_id
        return self._experiments[name]

    def _sync(self, run_ids: Sequence[str]) -> None:
        self._read_plans()
        changed: dict[str, Record] = {}
        for run_id in run_ids:
            run = self.ledger.run(run_id)
            status = self._status(run)
            if status == "planned":
                continue
            files = tuple(_stamp(run.path / name) for name in ("evaluations.jsonl", "training.jsonl"))
            standing, before = (status, tuple(self._tables.get(run_id, ()))), self._seen.get(run_id)
            if before != (standing, files):
                self._sync_child(run, status)
                self._seen[run_id] = (standing, files)
            if before is None or before[0] != standing:
                changed[tracked_run.group_id(self._record(run))] = self._record(run)
        if changed:
            members: dict[str, list[RunFolder]] = {}
            for run in self.ledger.runs():
                members.setdefault(tracked_run.group_id(self._record(run)), []).append(run)
            for group_id, record in changed.items():
                self._sync_parent(record, members[group_id])

    def _log_artifacts(self, plan_name: str, table: str, paths: Sequence[Path]) -> None:
        experiment_id = self._experiment(table)
        found = self._find(experiment_id, "erdp.plan", plan_name)
        tags = {"erdp.plan": plan_name, f"table.{plan_name}": "true"}
        if found:
            run = self._keep_one(found)
        else:
            run = _Remote.of(self._connected().create_run(experiment_id, run_name=plan_name, tags=tags))
        for path in paths:
            self._connected().log_artifact(run.mlflow_id, str(path))
        if run.status != "FINISHED":
            self._connected().set_terminated(run.mlflow_id, "FINISHED")

    def _find(self, experiment_id: str, tag: str, value: str) -> "list[Run]":
        found = self._connected().search_runs([experiment_id], f"tags.`{tag}` = '{value}'", max_results=1000)
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))

    def _keep_one(self, runs: "Sequence[Run]") -> _Remote:
        """The first of the runs that should be one: an answer that got lost has had it created again."""
        for run in runs[1:]:
            self._connected().delete_run(run.info.run_id)
        return _Remote.of(runs[0])

    def _group(self, record: Record) -> _Group:
        group_id = tracked_run.group_id(record)
        if group_id not in self._groups:
            group = _Group(self._experiment(tracked_run.experiment_name(record)))
            found: dict[str | None, list[Run]] = {}
            for run in self._find(group.experiment_id, "erdp.group", group_id):
                found.setdefault(run.data.tags.get("erdp.run_id"), []).append(run)
            for run_id, runs in found.items():
                if run_id is None:
                    group.parent = self._keep_one(runs)
                else:
                    group.children[run_id] = self._keep_one(runs)
            self._groups[group_id] = group
        return self._groups[group_id]

    def _create(self, group: _Group, name: str, started: int, tags: Mapping[str, str]) -> _Remote:
        run = self._connected().create_run(group.experiment_id, started, dict(tags), name[:_LONGEST_NAME])
        return _Remote.of(run)

    def _sync_child(self, run: RunFolder, status: str) -> None:
        record = self._record(run)
        group, started = self._group(record), tracked_run.milliseconds(run.path / "run.json")
        tags = {"erdp.group": tracked_run.group_id(record)}
        if group.parent is None:
            group.parent = self._create(group, tracked_run.group_name(record), started, tags)
        tags |= {"erdp.run_id": run.run_id, "mlflow.parentRunId": group.parent.mlflow_id}
        if run.run_id not in group.children:
            # Its own name says what it is: a page that compares runs shows nothing of their parents.
            name = f"{tracked_run.group_name(record)} seed {record['seed']}"
            group.children[run.run_id] = self._create(group, name, started, tags)
        child = group.children[run.run_id]
        self._links[run.run_id] = (group.experiment_id, child.mlflow_id)
        tags |= tracked_run.run_tags(run, record, status) | tracked_run.table_tags(self._tables.get(run.run_id, ()))
        points: list[Point] = []
        # The status is set last: a run that MLflow has as finished has all its points.
        if status in ("started", "pruned") or child.status != _MLFLOW_STATUS[status]:
            logged = group.logged.setdefault(run.run_id, {})
            for key in ("score", "steps_per_second"):
                if key not in logged:
                    logged[key] = self._last_step(child, key)
            evaluation = ("score", "score_one_candidate")
            points = [
                point
                for point in tracked_run.run_points(run)
                if point.step > logged["score" if point.key in evaluation else "steps_per_second"]
            ]
            logged |= {point.key: point.step for point in points if point.key in logged}
        self._bring(
            child,
            tracked_run.parameters(record) | {"seed": str(record["seed"])},
            tags,
            points,
            status,
            _ended(run, status),
        )

    def _last_step(self, child: _Remote, key: str) -> int:
        if key not in child.metrics:
            return -1
        return max(metric.step for metric in self._connected().get_metric_history(child.mlflow_id, key))

    def _sync_parent(self, record: Record, members: Sequence[RunFolder]) -> None:
        parent = self._group(record).parent
        assert parent is not None, "a child is synced first, and makes it"
        ends: dict[str, list[int | None]] = {"started": [], "failed": [], "pruned": [], "finished": []}
        finished = []
        for run in members:
            status = self._status(run)
            ends[status].append(_ended(run, status))
            if status == "finished":
                finished.append(run)
        status = next(status for status in ends if ends[status])
        known = [end for of_status in ends.values() for end in of_status if end is not None]
        ended = None if status == "started" else max(known)
        plans = [plan for run in members for plan in self._tables.get(run.run_id, ())]
        points: list[Point] = []
        summary = tracked_run.summary(finished)
        if not all(math.isclose(parent.metrics.get(key, math.nan), value) for key, value in summary.items()):
            seeds = round(summary["seeds"])
            time = max(end for end in ends["finished"] if end is not None)
            points = [Point(key, value, time, seeds) for key, value in summary.items()]
            parent.metrics |= summary
        tags = {"status": status} | tracked_run.table_tags(plans)
        self._bring(parent, tracked_run.parameters(record), tags, points, status, ended)

    def _bring(
        self,
        remote: _Remote,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        points: Sequence[Point],
        status: str,
        ended: int | None,
    ) -> None:
        """Log what is missing; the status last."""
        from mlflow.entities import Metric, Param, RunTag

        new_params = {key: value for key, value in params.items() if key not in remote.params}
        tags = {key: value[:_LONGEST_TAG] for key, value in tags.items()}
        new_tags = {key: value for key, value in tags.items() if remote.tags.get(key) != value}
        for start in range(0, max(len(points), 1), _BATCH):
            batch = [Metric(*point) for point in points[start : start + _BATCH]]
            is_last = start + _BATCH >= len(points)
            batch_params = [Param(*item) for item in new_params.items()] if start == 0 else []
            batch_tags = [RunTag(*item) for item in new_tags.items()] if is_last else []
            if batch or batch_params or batch_tags:
                self._connected().log_batch(remote.mlflow_id, batch, batch_params, batch_tags)
        remote.params |= new_params
        remote.tags |= new_tags
        mlflow_status = _MLFLOW_STATUS[status]
        if remote.status != mlflow_status:
            if ended is None:
                self._connected().update_run(remote.mlflow_id, mlflow_status)
            else:
                self._connected().set_terminated(remote.mlflow_id, mlflow_status, ended)
            remote.status = mlflow_status

    def _status(self, run: RunFolder) -> str:
        """The ledger's, or `pruned`: begun, and given up by the search that asked for it."""
        return "pruned" if run.status == "started" and run.run_id in self._pruned else run.status

    def _record(self, run: RunFolder) -> Record:
        if run.run_id not in self._records:
            self._records[run.run_id] = run.record()
        return self._records[run.run_id]

    def _read_plans(self) -> None:
        files = [(path.name, _stamp(path)) for path in sorted((self.ledger.root / "plans").glob("*.json"))]
        if files != self._plans_seen:
            self._tables, self._pruned = {}, set()
            for name, plan in self.ledger.plans().items():
                for run_id in dict.fromkeys(cell["run_id"] for cell in plan["cells"] if cell["run_id"]):
                    self._tables.setdefault(run_id, []).append(name)
                self._pruned.update(plan.get("pruned", ()))
            self._plans_seen = files


def _ended(run: RunFolder, status: str) -> int | None:
    """When a run came to an end, milliseconds since the epoch; None while it has not."""
    file = {"started": None, "pruned": "evaluations.jsonl"}.get(status, f"{status}.json")
    return tracked_run.milliseconds(run.path / file) if file else None


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes when a file does."""
    if not path.exists():
        return None
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
