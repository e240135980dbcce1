"""States in the plane: neighbours stay neighbours, colours are their episodes' returns, done once."""

from pathlib import Path

import numpy as np
import pytest

from erdp_core.data.transitions import Transitions
from orchestration.ledger import Ledger
from sweeps import embed_states
from tests.orchestration.made_runs import write_data

EPISODES, LENGTH = 12, 10


def two_clouds() -> Transitions:
    """Episodes whose states stay around one of two places far apart, and that return 0 or 10 there."""
    random = np.random.default_rng(0)
    side = np.repeat(np.arange(EPISODES) % 2, LENGTH)
    states = (random.normal(size=(EPISODES * LENGTH, 4)) * 0.1 + side[:, None] * 5).astype(np.float32)
    last = np.arange(EPISODES * LENGTH) % LENGTH == LENGTH - 1
    return Transitions(
        states,
        np.zeros((len(states), 2), dtype=np.float32),
        states,
        side.astype(np.float32),
        last.astype(np.float32),
    )


def test_states_are_placed_and_coloured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_data(tmp_path / "data.hdf5", two_clouds())
    root = tmp_path / "runs"
    data = f"pointmaze-umaze={tmp_path / 'data.hdf5'}"
    arguments = ["--tasks", "pointmaze-umaze", "--data", data, "--ledger", str(root)]
    assert embed_states.main(arguments) == 0
    assert "119 states" in capsys.readouterr().out
    ledger = Ledger.open(root)
    [name] = ledger.toys()
    _, arrays = ledger.toy(name)
    places, returns = arrays["pointmaze-umaze/places"], arrays["pointmaze-umaze/returns"]
    assert places.shape == (119, 2)  # a file's last row has no next one
    assert sorted(set(returns.tolist())) == [0.0, 9.0, 10.0]
    paying = returns > 0
    centres = np.array([places[~paying].mean(axis=0), places[paying].mean(axis=0)])
    nearest = np.linalg.norm(places[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == paying).all()
    assert {path.suffix for path in (root / "toys").glob(f"{name}.*")} >= {".png", ".svg"}
    assert embed_states.main(arguments) == 0
    assert f"{name}: done before" in capsys.readouterr().out


def test_too_few_states_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = two_clouds()
    columns = (few.observations, few.actions, few.next_observations, few.rewards, few.terminals)
    write_data(tmp_path / "data.hdf5", Transitions(*(column[:21] for column in columns)))
    data = f"pointmaze-umaze={tmp_path / 'data.hdf5'}"
    assert embed_states.main(["--tasks", "pointmaze-umaze", "--data", data, "--ledger", str(tmp_path / "runs")]) == 2
    assert "20 states, t-SNE needs more than 30" in capsys.readouterr().err
    assert embed_states.main(["--tasks", "pointmaze-umase", "--ledger", str(tmp_path / "runs")]) == 2
    assert "did you mean 'pointmaze-umaze'" in capsys.readouterr().err
