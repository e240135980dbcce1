"""The benchmarks run, and count what the paper's sizes are known to cost."""

import json
import math
from pathlib import Path

import pytest
import torch

from erdp_core import fused
from tests.benchmarks import breakdown, evaluation, start, step
from tests.benchmarks.machine import peak_memory

CPU = torch.device("cpu")


def test_the_papers_steps_cost_what_they_are_known_to() -> None:
    """28 GFLOP (Gym), 74 (AntMaze with the max-Q backup)."""
    gym, ant_maze = step.PAPER[:2]
    assert gym.gflop == pytest.approx(28, rel=0.05)
    assert ant_maze.gflop == pytest.approx(74, rel=0.05)


def test_every_variant_of_a_step_is_measured() -> None:
    case = step.Case(step.HOPPER, runs=2, M=1)
    figures = {figure.variant: figure for figure in step.measure(case, CPU, rounds=1, seconds=0.02)}
    assert set(figures) == {"published", "eager", "compiled", "bfloat16"}
    for figure in figures.values():
        assert figure.milliseconds > 0
        assert 0 < figure.share_of_peak < 1.2
        assert str(round(figure.gflop, 1)) in step.line(figure)
    assert figures["published"].ratio == 1


def test_a_step_is_broken_down() -> None:
    case = step.Case(step.HOPPER, M=4)
    published = breakdown.breakdown(step.Published(case, CPU), 2, CPU)
    ours = breakdown.breakdown(step.Ours(case, CPU, compiled=True), 2, CPU)
    assert list(published.values()) == sorted(published.values(), reverse=True)
    assert {"products", "Mish", "Adam and averages", "waiting for a number"} <= set(published)
    assert "waiting for a number" not in {kind for kind, milliseconds in ours.items() if milliseconds > 0.5}
    assert sum(ours.values()) < sum(published.values())
    with fused.as_written():
        as_written = breakdown.breakdown(step.Ours(case, CPU, compiled=False), 2, CPU)
    assert "networks as a whole" not in as_written
    assert breakdown.kind_of("aten::bmm") == "products"
    assert breakdown.kind_of("aten::no_such") == breakdown.OTHER


def test_an_evaluation_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "keep_memory", lambda: None)  # for good: other tests of this process measure memory
    output = tmp_path / "evaluation.json"
    arguments = "--members 1 --episodes 2 --steps 2 --rounds 1 --output"
    assert evaluation.main([*arguments.split(), str(output)]) == 0
    [figure] = json.loads(output.read_text())["figures"]
    assert figure["published_milliseconds"] > figure["environment_milliseconds"] > 0
    assert math.isclose(figure["ratio"], figure["published_milliseconds"] / figure["milliseconds"])


def test_memory_of_a_call() -> None:
    measured = peak_memory(lambda: torch.ones(50 * 2**18), CPU)  # 50 MiB
    if measured is None:
        pytest.skip("the system does not tell")
    assert 45 < measured < 70


def test_a_start_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert start.main(["--rows", "2000", "--processes", "1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:-2] for line in lines[1:]][-3:] == [["networks"], ["first", "step"], ["in", "all"]]
    first, again = (sum(float(line[column]) for line in lines[1:-1]) for column in (-2, -1))
    assert float(lines[-1][-2]) == pytest.approx(first, abs=0.05)
    assert float(lines[-1][-1]) == pytest.approx(again, abs=0.05)
