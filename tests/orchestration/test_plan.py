"""From a table to runs: what makes a run another run."""

import dataclasses
import itertools
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erdp_core.agent_configs import METHODS, ErdpConfig
from erdp_core.config import resolve
from erdp_core.errors import ConfigError, DataError
from erdp_core.tasks import EnvironmentSpec, get_task
from orchestration import plan as plan_module
from orchestration.ledger import Ledger, LedgerError
from orchestration.plan import Plan, Run, make_plan, missing_runs
from tests.orchestration.made_runs import made_run
from tests.small import small_config, transitions


def with_task(run: Run, **changes: Any) -> Run:
    """The run of a task that differs."""
    return dataclasses.replace(run, task=dataclasses.replace(run.task, **changes))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "runs", create=True)


# --- Identity ---

CHANGES: dict[str, Callable[[Run], Run]] = {
    "task": lambda run: dataclasses.replace(run, task=get_task("pointmaze-medium")),
    "source": lambda run: dataclasses.replace(run, source="file"),
    "environment": lambda run: dataclasses.replace(run, environment=EnvironmentSpec("pointmaze-medium", {})),
    "environment's options": lambda run: dataclasses.replace(
        run, environment=EnvironmentSpec("pointmaze-umaze", {"a": 1})
    ),
    "data": lambda run: dataclasses.replace(run, dataset={**run.dataset, "fingerprint": "1" * 16}),
    "seed": lambda run: dataclasses.replace(run, seed=run.seed + 1),
    "method": lambda run: made_run(run.seed, small_config(method="bc-diffusion")),
    "trainer": lambda run: made_run(run.seed, small_config("trainer.steps=60")),
    "evaluation": lambda run: made_run(run.seed, small_config("evaluation.episodes=3")),
    **{
        name: lambda run, name=name, value=value: with_task(run, **{name: value})
        for name, value in {
            "reward_scale": 3.0,
            "reward_shift": -0.25,
            "standardise_rewards": True,
            "reference_min": -1.0,
            "reference_max": 2.0,
            "step_limit": 61,
        }.items()
    },
}
INDIFFERENT: dict[str, Callable[[Run], Run]] = {
    "profile": lambda run: dataclasses.replace(run, profile="quick"),
    "where the data lie": lambda run: dataclasses.replace(run, dataset={**run.dataset, "path": "/other.hdf5"}),
    "notes": lambda run: dataclasses.replace(run, dataset={**run.dataset, "notes": ["something"]}),
    "where data are looked for": lambda run: with_task(run, minari_ids=("another/data-v0",)),
    "an ablation's name for it": lambda run: dataclasses.replace(run, column="no entropy"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_determines_the_result_changes_the_id(change: str) -> None:
    assert CHANGES[change](made_run()).run_id != made_run().run_id


@pytest.mark.parametrize("change", INDIFFERENT)
def test_what_does_not_leaves_it(change: str) -> None:
    assert INDIFFERENT[change](made_run()).run_id == made_run().run_id


def test_the_algorithms_version_and_the_precision_change_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = made_run().run_id
    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "ALGORITHM_VERSIONS", {"erdp": 99, "bc-diffusion": 1})
        newer = made_run().run_id
    coarser = made_run(config=small_config("trainer.precision=bfloat16"))
    assert len({before, newer, coarser.run_id}) == 3
    assert (coarser.identity["precision"], made_run().identity["precision"]) == ("bfloat16", "float32")
    assert Run.from_record(coarser.record()) == coarser


NUMBERS = {int: st.integers(3, 16), float: st.floats(0, 1), bool: st.booleans()}
AGENT_VALUES: dict[str, st.SearchStrategy[Any]] = {
    name: st.sampled_from(typing.get_args(hint)) if typing.get_origin(hint) is typing.Literal else NUMBERS[hint]
    for name, hint in typing.get_type_hints(ErdpConfig).items()
}


@given(name=st.sampled_from(sorted(AGENT_VALUES)), data=st.data())
def test_ids_are_equal_exactly_where_configs_are(name: str, data: st.DataObject) -> None:
    config = small_config()
    changed = dataclasses.replace(config.agent, **{name: data.draw(AGENT_VALUES[name])})
    other = dataclasses.replace(config, agent=changed)
    assert (made_run(0, other).run_id == made_run(0, config).run_id) == (other == config)


def test_ids_are_readable_file_names() -> None:
    assert made_run(7).run_id.startswith("pointmaze-umaze.erdp.seed7.")
    assert set(made_run(7).run_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


@pytest.mark.parametrize("method", METHODS)
def test_records_are_read_back(ledger: Ledger, method: str) -> None:
    run = made_run(3, small_config("agent.width=12", method=method))
    ledger.run(run.run_id).create(run.record())
    record = ledger.run(run.run_id).record()
    assert Run.from_record(record) == run
    assert record["paper_config"] == resolve(get_task("pointmaze-umaze"), method, "paper").to_dict()


def test_a_record_of_another_version_is_refused() -> None:
    record = {**made_run().record(), "algorithm_version": 0, "run_id": "pointmaze-umaze.erdp.seed0.000000000000"}
    with pytest.raises(LedgerError, match=r"seed0\.000000000000 was made by another version"):
        Run.from_record(record)


# --- Plans ---


def planned(tmp_path: Path, **changes: Any) -> Plan:
    path = tmp_path / "data.hdf5"
    if not path.exists():
        data = transitions()
        with h5py.File(path, "w") as file:
            for name in ("observations", "actions", "rewards", "terminals"):
                file[name] = getattr(data, name)
    request: dict[str, Any] = {
        "profile": "smoke",
        "source": "auto",
        "protocol": "paper",
        "tasks": ["pointmaze-umaze", "pointmaze-medium"],
        "methods": ["erdp", "bc-diffusion"],
        "seeds": [0, 1, 5],
        "files": {"pointmaze-umaze": path},
    }
    return make_plan("pointmaze", **{**request, **changes})


def test_a_plan_has_a_cell_for_everything_and_a_gap_where_data_are_missing(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    asked = itertools.product(["pointmaze-umaze", "pointmaze-medium"], ["erdp", "bc-diffusion"], [0, 1, 5])
    assert [(cell.task, cell.method, cell.seed) for cell in plan.cells] == list(asked)
    assert len({run.run_id for run in plan.runs}) == len(plan.runs) == 6
    assert {run.source for run in plan.runs} == {"file"}
    for cell in plan.cells:
        assert (cell.run is None) == (cell.task == "pointmaze-medium") == (cell.gap is not None)
    assert len(plan.gaps) == 1
    assert "collect pointmaze-medium" in plan.gaps[0]
    assert "\n" not in plan.gaps[0]
    record = plan.record()
    assert [cell["run_id"] for cell in record["cells"]] == [
        cell.run.run_id if cell.run else None for cell in plan.cells
    ]
    assert record["name"] == plan.name


def test_data_that_are_there_but_bad_stop_the_plan(tmp_path: Path) -> None:
    (tmp_path / "data.hdf5").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"^pointmaze-umaze: \S+ is damaged"):
        planned(tmp_path)


def test_bad_settings_stop_the_plan_before_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "data.hdf5").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"agent\.alpa"):
        planned(tmp_path, settings=["agent.alpa=1"])


def test_names_of_plans_differ_with_the_request(tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"seeds": [0, 1]},
        {"methods": ["erdp"]},
        {"protocol": "last"},
        {"profile": "quick"},
        {"settings": ["agent.T=4"]},
        {"tasks": ["pointmaze-umaze"]},
    ]
    names = [planned(tmp_path, **changes).name for changes in variants]
    assert len(set(names)) == len(names)
    assert planned(tmp_path).name == names[0]
    assert names[0].startswith("pointmaze-smoke-")


# --- What is left to do ---


def test_failed_and_finished_runs_are_not_planned_again(tmp_path: Path, ledger: Ledger) -> None:
    plan = planned(tmp_path)
    finished, failed, started, *rest = plan.runs
    for run in (finished, failed, started):
        ledger.run(run.run_id).create(run.record())
    ledger.run(finished.run_id).finish({"step": 40})
    ledger.run(failed.run_id).fail({"step": 3, "reason": "loss not finite at step 3"})
    assert missing_runs(plan, ledger) == [started, *rest]
