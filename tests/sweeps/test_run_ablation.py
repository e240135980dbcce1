"""Ablations: columns with settings of their own, runs shared with tables, mistakes in one line."""

import json
import re
from pathlib import Path

import pytest

from erdp_core.config import resolve
from erdp_core.data.collect import collect_pointmaze
from erdp_core.errors import ConfigError
from erdp_core.tasks import TASKS, get_task
from orchestration import run_table
from orchestration.cluster import joined
from orchestration.ledger import Ledger
from orchestration.packing import Pack
from orchestration.plan import Column, Plan, make_plan
from sweeps import run_ablation
from sweeps.ablations import ABLATIONS

COMMON = ("--profile", "smoke", "--seeds", "2", "--tasks", "pointmaze-umaze")


@pytest.fixture(scope="module", autouse=True)
def _data(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        collect_pointmaze(get_task("pointmaze-umaze"), rows=800)
        yield


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_column_is_a_run_of_its_own(name: str) -> None:
    ablation = ABLATIONS[name]
    assert len({column.label for column in ablation.columns}) == len(ablation.columns)
    assert set(ablation.tasks) <= set(TASKS)
    for task in ablation.tasks:
        configs = {
            json.dumps(resolve(get_task(task), column.method, "paper", column.settings).to_dict())
            for column in ablation.columns
        }
        assert len(configs) == len(ablation.columns)


def test_an_ablation_whole_and_its_runs_shared_with_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = ("--ledger", str(tmp_path / "runs"))
    arguments = ["--ablation", "diffusion-ql-steps", *COMMON, *ledger, "--protocol", "offline"]
    with joined("local"):
        assert run_table.main(["--table", "pointmaze", "--methods", "diffusion-ql", *COMMON, *ledger]) == 0
        capsys.readouterr()
        assert run_ablation.main(arguments) == 0
    captured = capsys.readouterr()
    printed = captured.out
    # Those of N = 5, its usual number, are the table's.
    assert "8 runs (1 task x 4 methods x 2 seeds): 2 done, 6 to train" in printed
    assert re.search(r"diffusion-ql, T = 10 seeds? [01,]+: finished", captured.err)
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| diffusion-ql")]
    assert [label for label in rows if "candidate" not in label] == [f"diffusion-ql, T = {T}" for T in (2, 5, 10, 20)]
    # What the columns differ in is said by their names alone.
    [changes] = [line for line in printed.splitlines() if "Agents differ" in line]
    assert "width 32 (256)" in changes
    assert not re.search(r"\bT \d", changes)
    assert len(list(Ledger.open(tmp_path / "runs").runs())) == 8

    assert run_ablation.main(arguments) == 0
    assert "8 done, 0 to train" in capsys.readouterr().out


def test_values_of_a_packed_number_train_together() -> None:
    columns = [Column(f"eta {eta}", "erdp", (f"agent.eta={eta}",)) for eta in (0.5, 2.0)]

    def planned(*some: Column) -> Plan:
        return make_plan(
            "x", profile="smoke", source="auto", protocol="paper", tasks=["pointmaze-umaze"], columns=some, seeds=[0, 1]
        )

    plan = planned(*columns)
    assert len({run.pack_key for run in plan.runs}) == 1
    assert Pack(plan.runs, 1.0).name == "pointmaze-umaze eta 0.5 seeds 0,1; eta 2.0 seeds 0,1"
    assert plan.record()["columns"][1] == {"label": "eta 2.0", "method": "erdp", "settings": ["agent.eta=2.0"]}
    assert plan.name != planned(columns[0]).name


def test_settings_that_clash_in_a_column_name_it() -> None:
    columns = [Column("five", "erdp"), Column("two", "erdp", ("agent.T=2",))]
    with pytest.raises(ConfigError, match=r"^column 'two': agent.entropy=released needs agent.T >= 3"):
        make_plan(
            "x", profile="smoke", source="auto", protocol="paper", tasks=["pointmaze-umaze"], columns=columns, seeds=[0]
        )


def test_a_dry_run_names_what_its_own_tasks_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_ablation.main(["--ablation", "diffusion-ql-parts", "--dry-run", "--ledger", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert "45 runs (3 tasks x 3 methods x 5 seeds)" in printed
    assert "hopper-medium-expert-v2" in printed
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ablation", "part"], "unknown ablation 'part': did you mean 'parts'?"),
        (["--ablation", "parts", "--tasks", "pointmaze-umase"], "has no task 'pointmaze-umase'"),
        (
            ["--ablation", "parts", "--set", "agent.alpha=0.1"],
            "--set agent.alpha=0.1 is what the columns of parts differ in: leave it out",
        ),
        (["--ablation", "parts", "--set", "agent.expectile=0.9"], "agent.expectile is a setting of"),
        (
            ["--ablation", "diffusion-ql-steps", "--set", "agent.T=5"],
            "--set agent.T=5 is what the columns of diffusion-ql-steps differ in: leave it out",
        ),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_ablation.main([*arguments, "--dry-run", "--ledger", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
