"""The figure of a search: what its panels hold, and a damaged record told in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.image import imread

from orchestration.ledger import LedgerError
from results.study_figures import draw_study, write_study_figure

RECORD: dict[str, Any] = {
    "space": [
        {"key": "agent.alpha", "low": 0.001, "high": 0.3, "is_log": True, "is_whole": False},
        {"key": "agent.beta", "low": 1, "high": 8, "is_log": False, "is_whole": False},
    ],
    "default": {"agent.alpha": 0.01, "agent.beta": 4.0},
    "importances": {"agent.alpha": 0.75, "agent.beta": 0.25},
    "caption": ["Three trials."],
    "trials": [
        {"number": 0, "state": "finished", "value": 40.0, "reports": {"5": 1.0, "10": 40.0}},
        {"number": 1, "state": "pruned", "value": None, "reports": {"5": 7.0, "10": 9.0}},
        {"number": 2, "state": "finished", "value": 30.0, "reports": {}},
        {"number": 3, "state": "failed", "value": None, "reports": {}},
        {"number": 4, "state": "finished", "value": 60.0, "reports": {}},
    ],
}
for trial in RECORD["trials"]:
    trial["params"] = {"agent.alpha": 0.01 * (1 + trial["number"]), "agent.beta": 4.0}


def points(axes: Any) -> list[list[list[float]]]:
    """Of the finished trials, then of those given up."""
    clouds = [one for one in axes.collections if isinstance(one, PathCollection)]
    return [np.asarray(cloud.get_offsets()).tolist() for cloud in clouds]


def test_panels_hold_the_trials() -> None:
    history, alpha, beta, importance = draw_study(RECORD).axes
    assert points(history) == [[[0, 40], [2, 30], [4, 60]], [[1, 9]]]
    best = [line for line in history.lines if line.get_drawstyle() == "steps-post"]
    assert [np.asarray(line.get_ydata()).tolist() for line in best] == [[40, 40, 60]]
    assert points(alpha) == [[[0.01, 40], [0.03, 30], [0.05, 60]], [[0.02, 9]]]
    assert (alpha.get_xscale(), beta.get_xscale()) == ("log", "linear")
    assert [text.get_text().strip() for text in importance.texts] == ["25%", "75%"]


def test_files(maker: Any, tmp_path: Path) -> None:
    maker.ledger.write_study("tune-a", {**RECORD, "importances": {}})
    paths = write_study_figure(maker.ledger, "tune-a", tmp_path)
    assert [path.name for path in paths] == ["tune-a-search.png", "tune-a-search.svg"]
    assert imread(paths[0])[..., :3].std() > 0.02
    maker.ledger.write_study("tune-b", {**RECORD, "trials": [{"state": "finished"}]})
    with pytest.raises(LedgerError, match=r"tune-b\.json is damaged: run the search again"):
        write_study_figure(maker.ledger, "tune-b", tmp_path)
