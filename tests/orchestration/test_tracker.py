"""MLflow from the ledger, on real SQLite stores: complete, and once, whatever is interrupted."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from erdp_core.errors import UserError
from orchestration.ledger import Ledger
from orchestration.tracker import Tracker, TrackerError
from orchestration.tracking import default_uri, fill_command
from tests.orchestration.tracked_ledger import (
    INTERVAL,
    LOSSES,
    all_runs,
    child,
    client_of,
    contents,
    copy_empty_store,
    history,
    new_ledger,
    one,
    parent,
    plan,
    start,
    sync,
    train,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return new_ledger(tmp_path)


def test_children_hold_what_the_ledger_holds(ledger: Ledger) -> None:
    run = start(ledger, 3)
    train(run, [10.0, 70.0, 40.0])
    run.finish({"step": 60})
    sync(ledger)
    found = child(ledger, run)
    assert found.info.run_name == "pointmaze-umaze erdp seed 3"
    assert found.info.status == "FINISHED"
    assert history(ledger, found, "score") == [(20, 10.0), (40, 70.0), (60, 40.0)]
    assert history(ledger, found, "score_one_candidate") == [(20, 5.0), (40, 35.0), (60, 20.0)]
    assert history(ledger, found, "steps_per_second") == [(20, 10.0), (40, 10.0), (60, 10.0)]
    assert history(ledger, found, "critic_loss") == [(20, 3.0), (40, 4.0), (60, 5.0)]
    assert set(found.data.metrics) == {"score", "score_one_candidate", "steps_per_second", *LOSSES}
    stamps = [point.timestamp for point in client_of(ledger).get_metric_history(found.info.run_id, "score")]
    assert [stamp - found.info.start_time for stamp in stamps] == [2000, 4000, 6000]
    expected = {
        "task": "pointmaze-umaze",
        "source": "local",
        "dataset": "f00d",
        "environment": "pointmaze-umaze hold=5",
        "profile": "smoke",
        "seed": "3",
        "method": "erdp",
        "agent.alpha": "0.01",
        "agent.max_q_backup": "false",
        "trainer.steps": "40",
    }
    assert expected.items() <= found.data.params.items()
    tags = {"status": "finished", "git_commit": "c0ffee", "version.torch": "2.13.0"}
    assert tags.items() <= found.data.tags.items()


def test_one_parent_a_cell_without_its_seed(ledger: Ledger) -> None:
    runs = [start(ledger, seed, task) for task in ("pointmaze-umaze", "pointmaze-large") for seed in (0, 1)]
    other = start(ledger, 0, settings=["agent.alpha=0.1"])
    sync(ledger)
    parents = [parent(ledger, run) for run in [*runs, other]]
    names = [found.info.run_name for found in parents]
    assert names == [
        "pointmaze-umaze erdp", "pointmaze-umaze erdp",
        "pointmaze-large erdp", "pointmaze-large erdp",
        "pointmaze-umaze erdp alpha=0.1",
    ]  # fmt: skip
    assert len({found.info.run_id for found in parents}) == 3
    assert len(all_runs(ledger)) == 3 + 5
    children = client_of(ledger).search_runs(
        [parents[0].info.experiment_id], f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'"
    )
    assert {found.info.run_name for found in children} == {f"{parents[0].info.run_name} seed {seed}" for seed in (0, 1)}
    assert "seed" not in parents[0].data.params


def test_parents_sum_their_finished_children_up(ledger: Ledger) -> None:
    runs = [start(ledger, seed) for seed in range(4)]
    train(runs[0], [90.0, 40.0])
    runs[0].finish({})
    train(runs[3], [99.0])
    sync(ledger)
    found = parent(ledger, runs[0])
    assert found.info.status == "RUNNING"
    assert found.data.metrics == {"score_mean": 40.0, "seeds": 1.0}

    for run, last in zip(runs[1:3], (55.0, 61.0), strict=True):
        train(run, [20.0, last])
        run.finish({})
    runs[3].fail({"step": 25, "reason": "loss not finite at step 25"})
    sync(ledger)
    found = parent(ledger, runs[0])
    lasts = [40.0, 55.0, 61.0]
    assert found.data.metrics == {
        "score_mean": pytest.approx(statistics.mean(lasts)),
        "score_std": pytest.approx(statistics.stdev(lasts)),
        "seeds": 3.0,
    }
    assert [step for step, _ in history(ledger, found, "score_mean")] == [1, 3]
    assert found.info.status == "FAILED"
    failed = child(ledger, runs[3])
    assert failed.info.status == "FAILED"
    assert failed.data.tags["failure"] == "loss not finite at step 25"


def test_a_grown_ledger_adds_what_is_new_and_nothing_else(ledger: Ledger) -> None:
    runs = [start(ledger, seed) for seed in (0, 1)]
    same_driver = Tracker(ledger, default_uri(ledger))
    for intervals in range(3):
        for run in runs:
            train(run, [10.0 * intervals])
        if intervals == 2:
            for run in runs:
                run.finish({})
        for _ in range(2):
            same_driver.sync([run.run_id for run in runs])
        before = contents(ledger)
        sync(ledger)
        assert contents(ledger) == before
        for run in runs:
            steps = [step for step, _ in history(ledger, child(ledger, run), "score")]
            assert steps == [INTERVAL * (number + 1) for number in range(intervals + 1)]
            assert child(ledger, run).info.status == ("FINISHED" if intervals == 2 else "RUNNING")
    assert len(all_runs(ledger)) == 3


def test_an_evaluation_that_comes_after_its_training_is_not_lost(ledger: Ledger) -> None:
    run = start(ledger, 0)
    run.append_training({"step": 20, "seconds": 1.0, "steps_per_second": 20.0, "losses": LOSSES})
    sync(ledger)
    run.append_evaluation({"step": 20, "score": 5.0, "returns": [0.05], "seconds": 1.0})
    sync(ledger)
    found = child(ledger, run)
    assert history(ledger, found, "score") == [(20, 5.0)]
    assert history(ledger, found, "q_loss") == [(20, -0.25)]


@pytest.mark.parametrize("answer", ["refused", "lost"])
def test_a_driver_killed_at_any_write_leaves_nothing_twice(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """Each attempt gets one write further; then the next is refused, or it ends before it has that one's answer."""
    runs = [start(ledger, seed) for seed in (0, 1)]
    for run in runs:
        train(run, [1.0, 2.0])
    runs[0].finish({})
    plan(ledger, "table-smoke", runs)
    sync(ledger)
    whole = contents(ledger)

    written = [0]

    def fragile(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if written[0] == 1:
                raise MlflowException("killed")
            written[0] += 1
            result = method(*arguments, **options)
            if answer == "lost":
                raise MlflowException("killed")
            return result

        return call

    copy_empty_store(tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    for name in ("create_experiment", "create_run", "log_batch", "set_terminated"):
        monkeypatch.setattr(MlflowClient, name, fragile(getattr(MlflowClient, name)))
    kills = 0
    while kills < 50:
        written[0] = 0
        try:
            sync(ledger)
        except TrackerError:
            kills += 1
        else:
            break
    # An experiment, three runs, their contents and the status of one.
    assert kills == (8 if answer == "lost" else 7)
    assert contents(ledger) == whole


def test_an_experiment_made_by_another_driver_meanwhile_is_taken(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two drivers look for it at once, find none, and both make it."""
    start(ledger, 0)
    create = MlflowClient.create_experiment

    def too_late(client: MlflowClient, name: str, **options: Any) -> str:
        create(client, name, **options)
        return create(client, name, **options)

    monkeypatch.setattr(MlflowClient, "create_experiment", too_late)
    sync(ledger)
    assert len(all_runs(ledger)) == 2


def test_a_run_deleted_by_another_driver_meanwhile_is_let_go(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both drivers made it; the other keeps its own, and this one fills that."""
    run = start(ledger, 0)
    train(run, [1.0])
    log_batch = MlflowClient.log_batch
    others: list[str] = []

    def deleted(client: MlflowClient, run_id: str, *arguments: Any, **options: Any) -> None:
        if not others:
            found = client.get_run(run_id)
            tags = {key: value for key, value in found.data.tags.items() if key != "mlflow.runName"}
            created = client.create_run(found.info.experiment_id, found.info.start_time, tags, found.info.run_name)
            others.append(created.info.run_id)
            client.delete_run(run_id)
        log_batch(client, run_id, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", deleted)
    sync(ledger)
    found = child(ledger, run)
    assert found.info.run_id == others[0]
    assert history(ledger, found, "score") == [(20, 1.0)]


def test_runs_made_twice_become_one(ledger: Ledger) -> None:
    run = start(ledger, 0)
    train(run, [1.0])
    sync(ledger)
    before = contents(ledger)
    for found in all_runs(ledger):
        tags = {key: value for key, value in found.data.tags.items() if key != "mlflow.runName"}
        client_of(ledger).create_run(found.info.experiment_id, found.info.start_time + 1, tags, found.info.run_name)
    assert len(all_runs(ledger)) == 4
    sync(ledger)
    assert contents(ledger) == before


def test_a_run_of_several_tables_is_there_once(ledger: Ledger) -> None:
    runs = [start(ledger, seed) for seed in (0, 1)]
    plan(ledger, "pointmaze-smoke-1", runs[:1])
    tracker = sync(ledger)
    plan(ledger, "alpha-smoke-2", runs)
    tracker.sync([run.run_id for run in runs])
    tables = [
        {key for key in found.data.tags if key.startswith("table.")}
        for found in (child(ledger, runs[0]), child(ledger, runs[1]), parent(ledger, runs[0]))
    ]
    both = {"table.pointmaze-smoke-1", "table.alpha-smoke-2"}
    assert tables == [both, {"table.alpha-smoke-2"}, both]
    assert len(all_runs(ledger)) == 3


def test_artifacts_replace_those_of_the_same_plan(ledger: Ledger, tmp_path: Path) -> None:
    table, figure = tmp_path / "table.md", tmp_path / "curves.png"
    figure.write_bytes(b"picture")
    for text in ("old", "new"):
        table.write_text(text)
        Tracker(ledger, default_uri(ledger)).log_artifacts("pointmaze-smoke-1", "pointmaze", [table, figure])
    found = one(ledger, **{"erdp.plan": "pointmaze-smoke-1"})
    assert (found.info.run_name, found.info.status) == ("pointmaze-smoke-1", "FINISHED")
    assert {item.path for item in client_of(ledger).list_artifacts(found.info.run_id)} == {"table.md", "curves.png"}
    local = client_of(ledger).download_artifacts(found.info.run_id, "table.md", str(tmp_path))
    assert Path(local).read_text() == "new"
    assert any((ledger.root / "mlflow-artifacts").rglob("table.md"))


def test_compare_link_names_the_runs(ledger: Ledger) -> None:
    runs = [start(ledger, seed) for seed in (0, 1, 2)]
    ids = [run.run_id for run in runs]
    tracker = Tracker(ledger, default_uri(ledger))
    assert tracker.compare_link(ids) is None
    tracker.sync(ids)
    link = tracker.compare_link(ids[:2])
    assert link is not None
    page, _, query = link.partition("?")
    assert page == "/#/compare-runs"
    asked = {key: json.loads(values[0]) for key, values in parse_qs(query).items()}
    found = child(ledger, runs[0])
    assert asked == {
        "runs": [found.info.run_id, child(ledger, runs[1]).info.run_id],
        "experiments": [found.info.experiment_id],
    }
    assert tracker.ui_command() == f"mlflow ui --backend-store-uri sqlite:///{ledger.root}/mlflow.db"


def test_nothing_new_costs_nothing(ledger: Ledger) -> None:
    run_ids = []
    for task in ("pointmaze-umaze", "pointmaze-medium", "pointmaze-large"):
        for seed in range(3):
            run = start(ledger, seed, task)
            train(run, [1.0] * 5)
            run.finish({})
            run_ids.append(run.run_id)
    tracker = sync(ledger)
    began = time.process_time()
    tracker.sync(run_ids)
    assert time.process_time() - began < 0.1
    began = time.process_time()
    sync(ledger)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "localhost:5000", ""])
def test_other_uris_are_refused_at_once(ledger: Ledger, uri: str) -> None:
    with pytest.raises(UserError, match=r"no tracking URI.*http://HOST:PORT"):
        Tracker(ledger, uri)


def test_passwords_are_not_shown(ledger: Ledger) -> None:
    uri = "postgresql+psycopg2://user:secret@127.0.0.1:1/runs"
    assert "secret" not in fill_command(ledger, uri)
    assert "secret" not in Tracker(ledger, uri).ui_command()
    run = start(ledger, 0)
    with pytest.raises(TrackerError, match=r"user:\*\*\*@127\.0\.0\.1:1/runs cannot be used") as caught:
        Tracker(ledger, uri).sync([run.run_id])
    assert "secret" not in str(caught.value)


def test_a_deleted_experiment_is_named(ledger: Ledger) -> None:
    start(ledger, 0)
    sync(ledger)
    experiment = all_runs(ledger)[0].info.experiment_id
    client_of(ledger).delete_experiment(experiment)
    with pytest.raises(TrackerError, match=f"mlflow experiments restore --experiment-id {experiment}"):
        sync(ledger)
