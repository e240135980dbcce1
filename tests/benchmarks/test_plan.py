"""The plan's arithmetic, and that what it rests on is measured."""

import json
from pathlib import Path

import pytest
import torch

from erdp_core.config import resolve
from erdp_core.tasks import get_task
from tests.benchmarks import plan
from tests.benchmarks.plan import Cell, Cost, Figures

STEP, ACT, ENVIRONMENT = {1: 0.010, 5: 0.020}, {1: 0.004, 5: 0.012}, 1e-4


def every_shape() -> dict[str, Figures]:
    return {cell.shape: Figures(STEP, ACT, ENVIRONMENT) for table in plan.TABLES for cell in plan.cells(table)}


def test_the_main_tables_are_a_hundred_runs_and_no_cell_is_cheaper_together() -> None:
    found = plan.plan(every_shape(), cores=16, start_seconds=30, overlapped=True)
    assert found["main (1, 2)"][0] == 100
    assert {name: runs for name, (runs, _) in found.items() if name != "main (1, 2)"} == {
        "1 gym": 45,
        "1 adroit": 10,
        "1 kitchen": 15,
        "2 antmaze": 30,
        "3 alpha": 100,
        "7 critics": 100,
        "8 beta": 60,
        "9 steps": 45,
        "10 max-Q": 40,
    }
    parts = [found[name][1][1].device_hours for name in plan.MAIN]
    assert found["main (1, 2)"][1][1].hours == pytest.approx(sum(parts))
    for _, schedules in found.values():
        assert schedules[1].hours >= schedules[8].hours >= schedules[64].hours
        assert all(one.device_hours <= devices * one.hours * 1.000001 for devices, one in schedules.items())


def test_a_packs_hours_are_those_of_its_parts() -> None:
    cell = Cell(get_task("antmaze-medium-play-v0"), resolve(get_task("antmaze-medium-play-v0"), "erdp", "paper"))
    figures = Figures(STEP, ACT, ENVIRONMENT)
    alone = plan.pack_cost(cell, 1, figures, cores=16, start_seconds=36, overlapped=False)
    # A million steps; 20 evaluations of 1000 decisions; 100 episodes on 16 cores, 7 turns.
    assert alone.training == pytest.approx(1e6 * 0.010 / 3600)
    assert alone.acting == pytest.approx(20_000 * 0.004 / 3600)
    assert alone.environments == pytest.approx(20_000 * 7 * 1e-4 / 3600)
    assert alone.total == pytest.approx(alone.training + alone.acting + alone.environments + 0.01)
    three = plan.pack_cost(cell, 3, figures, cores=16, start_seconds=36, overlapped=True)
    assert three.training == pytest.approx(1e6 * 0.015 / 3600)
    assert three.total == pytest.approx(three.training + 0.01)
    assert three.longest_part == "training steps"
    slow = plan.pack_cost(cell, 5, Figures(STEP, ACT, 1.0), cores=1, start_seconds=0, overlapped=True)
    assert slow.total == pytest.approx(slow.acting + slow.environments)
    assert slow.longest_part == "environments"


def test_more_devices_than_packs_split_packs() -> None:
    def packs_of(limit: int) -> list[Cost]:
        return [Cost(1.0 + 0.1 * size, 0, 0, 0, False) for size in plan.split(5, limit)]

    one, eight = plan.schedule(packs_of, 1), plan.schedule(packs_of, 8)
    assert (one.hours, one.device_hours) == (pytest.approx(1.5), pytest.approx(1.5))
    assert (eight.hours, eight.device_hours) == (pytest.approx(1.1), pytest.approx(5.5))
    assert one.bottleneck == "training steps"
    assert eight.bottleneck == "one run's training steps, 3 devices idle"
    assert [plan.split(5, limit) for limit in range(1, 6)] == [[1] * 5, [2, 2, 1], [3, 2], [3, 2], [5]]


def test_what_is_measured_is_written_and_planned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("agent.M=2", "agent.width=16", "agent.batch_size=8", "agent.candidates=2", "evaluation.episodes=2")
    cell = Cell(get_task("antmaze-umaze-v0"), resolve(get_task("antmaze-umaze-v0"), "erdp", "paper", small))
    figures = plan.measure(cell, torch.device("cpu"), (1, 5))
    assert set(figures.step) == set(figures.act) == {1, 5}
    assert all(0 < seconds < 1 for one in (figures.step, figures.act) for seconds in one.values())
    assert 0 < figures.environment < 0.1

    monkeypatch.setattr(plan, "measure", lambda cell, device: figures)
    output = tmp_path / "figures.json"
    assert plan.main(["--output", str(output)]) == 0
    measured = capsys.readouterr().out
    assert "main (1, 2)   100" in measured
    assert set(json.loads(output.read_text())["figures"]) == set(every_shape())
    assert plan.main(["--figures", str(output)]) == 0
    assert capsys.readouterr().out == measured
    assert plan.main(["--figures", str(output), "--cores", "64", "--start", "0"]) == 0
    assert "64 cores a device" in capsys.readouterr().out
