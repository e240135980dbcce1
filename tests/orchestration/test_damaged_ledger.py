"""A ledger with damaged files: one line that names the file, or the file is passed over; never a traceback."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from erdp_core.data.collect import collect_pointmaze
from erdp_core.errors import DataError
from erdp_core.tasks import get_task
from orchestration import tracking
from orchestration.ledger import Ledger, RunFolder
from orchestration.options import parse_files, parse_seeds
from orchestration.pack_work import PackWork
from orchestration.plan import make_plan
from results import make_tables


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with one finished run and the plan that it belongs to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        collect_pointmaze(get_task("pointmaze-umaze"), rows=300)
        ledger = Ledger.open(tmp_path_factory.mktemp("damaged") / "runs", create=True)
        plan = make_plan(
            "pointmaze", profile="smoke", source="local", protocol="paper", tasks=["pointmaze-umaze"],
            methods=["bc-diffusion"], seeds=[0],
        )  # fmt: skip
        ledger.write_plan(plan.name, plan.record())
        work = PackWork(ledger, plan.runs, "cpu")
        while not work.advance().done:
            pass
    return ledger.root


@pytest.fixture
def ledger(finished: Path, tmp_path: Path) -> Ledger:
    """A copy to harm."""
    import shutil

    shutil.copytree(finished, tmp_path / "runs")
    return Ledger(tmp_path / "runs")


def the_run(ledger: Ledger) -> RunFolder:
    return next(ledger.runs())


def run_json(content: str) -> Callable[[Ledger], Path]:
    def harm(ledger: Ledger) -> Path:
        path = the_run(ledger).path / "run.json"
        path.write_text(content)
        return path

    return harm


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"run_id": "x"}'])
def test_a_damaged_run_record_is_named_with_its_remedy(
    ledger: Ledger, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_json(content)(ledger)
    for command in (
        lambda: make_tables.main(["--ledger", str(ledger.root), "--out", str(tmp_path / "out")]),
        lambda: tracking.main(["--ledger", str(ledger.root)]),
    ):
        assert command() == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert f"{path} is damaged: delete the run's folder and run its table again" in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize("line", ["{", '{"step": 20}', '{"step": "x", "score": 1, "returns": []}', "[1]", "\udcff"])
def test_damaged_lines_do_not_count(ledger: Ledger, line: str, tmp_path: Path) -> None:
    run = the_run(ledger)
    before = (run.evaluations(), run.training())
    for name in ("evaluations.jsonl", "training.jsonl"):
        with open(run.path / name, "ab") as file:
            file.write(line.encode(errors="surrogateescape") + b"\n")
    assert (run.evaluations(), run.training()) == before
    assert make_tables.main(["--ledger", str(ledger.root), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": [{}]}'])
def test_a_damaged_plan_hinders_no_other_table(ledger: Ledger, content: str, tmp_path: Path) -> None:
    (ledger.root / "plans" / "other.json").write_text(content)
    assert list(ledger.plans()) == [path.stem for path in (ledger.root / "plans").glob("pointmaze*.json")]
    assert make_tables.main(["--ledger", str(ledger.root), "--out", str(tmp_path / "out")]) == 0


def test_a_run_whose_record_is_gone_is_planned_anew_and_strangers_among_its_states_are_ignored(ledger: Ledger) -> None:
    run = the_run(ledger)
    steps = run.policies.steps()
    (run.path / "policies" / "step-abc.pt").write_text("")
    assert run.policies.steps() == steps
    (run.path / "run.json").unlink()
    assert run.status == "planned"


def test_a_full_disk_is_found_before_collecting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import shutil

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=1 << 20))
    with pytest.raises(DataError, match=os.strerror(errno.ENOSPC)):
        collect_pointmaze(get_task("pointmaze-umaze"), rows=100)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", ",", "0", "-1", "1e3", "1_0", "٣", "1.5", "9" * 21, "9" * 21 + ",", "1001"])
def test_odd_seeds_are_refused(text: str) -> None:
    with pytest.raises(Exception, match="--seeds") as raised:
        parse_seeds(text)
    assert type(raised.value).__name__ == "UserError"


def test_seeds_and_files() -> None:
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("7,") == (7,)
    assert parse_seeds("0,1,1,7") == (0, 1, 7)
    with pytest.raises(Exception, match="twice"):
        parse_files(["pointmaze-umaze=a", "pointmaze-umaze=b"], ["pointmaze-umaze"])
    with pytest.raises(Exception, match="home"):
        parse_files(["pointmaze-umaze=~nobody-of-that-name/a"], ["pointmaze-umaze"])
