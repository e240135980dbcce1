"""Scores are compared seed by seed, and equal only where the interval says so."""

from pathlib import Path

import pytest

from erdp_core.data.collect import collect_pointmaze
from erdp_core.tasks import get_task
from orchestration.cluster import joined
from tests.benchmarks import paired


def test_the_interval_is_students() -> None:
    found = paired.paired([12.0, 9.0, 15.0], [10.0, 10.0, 12.0])
    # Differences 2, -1, 3: mean 4/3, standard deviation sqrt(13/3); t(0.95, 2) = 2.919986.
    assert found.mean == pytest.approx(4 / 3)
    assert found.half_width == pytest.approx(2.919986 * (13 / 3) ** 0.5 / 3**0.5, rel=1e-6)
    assert not found.is_equal
    shifted = paired.paired([50.5, 60.4, 70.6], [50.0, 60.0, 70.0])
    assert shifted.is_equal
    assert not paired.paired([53.5, 63.4, 73.6], [50.0, 60.0, 70.0]).is_equal


def test_a_setting_is_trained_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    collect_pointmaze(get_task("pointmaze-umaze"), rows=800)
    small = ["trainer.steps=20", "trainer.interval=4", "evaluation.episodes=2", "agent.width=16", "agent.batch_size=8"]
    table = ["--table", "pointmaze", "--tasks", "pointmaze-umaze", "--seeds", "2", "--ledger", str(tmp_path / "runs")]
    monkeypatch.setattr(paired.run_table, "main", smaller(paired.run_table.main, small))
    with joined("local"):
        assert paired.main(["--set", "trainer.precision=bfloat16", *table]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "trainer.precision=bfloat16, less without:" in lines
    [best, last] = [line for line in lines if line.endswith(("seeds)", "equal"))]
    assert best.split()[:2] == ["pointmaze-umaze", "paper"]
    assert last.split()[:2] == ["pointmaze-umaze", "last-k"]
    assert "(2 seeds)" in best


def smaller(main, settings):  # type: ignore[no-untyped-def]
    """The command with settings of its own beside those that are asked for."""

    def with_settings(arguments: list[str]) -> int:
        at = arguments.index("--set") + 1 if "--set" in arguments else len(arguments)
        before = arguments[:at] if "--set" in arguments else [*arguments, "--set"]
        code: int = main([*before, *settings, *arguments[at:]])
        return code

    return with_settings
