"""What stands behind a cell, in words."""

from typing import Any

import pytest

from results import explain


def said(maker: Any, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert explain.main([*arguments, "--ledger", str(maker.ledger.root)]) == 0
    return capsys.readouterr().out


def test_a_cell(mazes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(mazes, capsys, "mazes", "pointmaze-umaze", "erdp")
    assert "pointmaze-umaze, erdp of mazes" in text
    assert "80.0 ± 10.0 (3), 95% interval 55.2 to 104.8, by protocol paper" in text
    assert "data: local, 1 row, fingerprint 0000000000000000, data.hdf5" in text
    assert "agent.M=4 (64)" in text
    rows = [line.split() for line in text.splitlines() if line.strip().startswith(("0 ", "1 ", "2 "))]
    assert [row[:4] for row in rows] == [["0", "70.0", "60.0", "46.7"], ["1", "80.0", "60.0", "50.0"],
                                         ["2", "90.0", "60.0", "53.3"]]  # fmt: skip
    assert "seed 2  ▂█▆  1,500: 10.0, 3,000: 90.0, 4,500: 60.0" in text


def test_gaps_and_another_protocol(mazes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(mazes, capsys, "pointmaze", "pointmaze-medium", "erdp", "--protocol", "last")
    assert "seed 2: failed: loss not finite at step 400" in text
    assert "by protocol last" in text
    empty = said(mazes, capsys, "mazes", "pointmaze-large", "erdp")
    assert empty.count("data missing: collect them first") == 3
    assert "evaluations" not in empty


def test_runs_that_differ_are_told_apart(maker: Any, capsys: pytest.CaptureFixture[str]) -> None:
    maker.run("pointmaze-umaze", "erdp", 0, [10.0], source="local")
    maker.run("pointmaze-umaze", "erdp", 1, [20.0], source="minari")
    maker.plan()
    text = said(maker, capsys, "mazes", "pointmaze-umaze", "erdp")
    assert "data (seeds 0): local" in text
    assert "data (seeds 1): minari" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("maze", "pointmaze-umaze", "erdp"), "did you mean 'mazes'"),
        (("mazes", "pointmaze-umze", "erdp"), "has no task 'pointmaze-umze': did you mean 'pointmaze-umaze'"),
        (("mazes", "pointmaze-umaze", "edrp"), "has no method 'edrp': did you mean 'erdp'"),
        (("mazes", "pointmaze-umaze", "erdp", "--protocol", "lats"), "did you mean 'last'"),
    ],
)
def test_mistakes(mazes: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    assert explain.main([*arguments, "--ledger", str(mazes.ledger.root)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
