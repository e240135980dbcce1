"""The toys: their data, their true values, what is trained and read off, the command."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from erdp_core.agent_configs import METHODS
from orchestration import cluster
from orchestration.ledger import Ledger, LedgerError
from results import make_toys
from results.toy_figures import in_modes
from sweeps import toys
from sweeps.toy_problems import CENTRES, DISCOUNT, REWARDS, bandit, reward_on_the_line, true_first_values, two_steps
from sweeps.toy_training import Variant, trained


@pytest.mark.parametrize("name", CENTRES)
def test_a_bandits_data_are_four_clouds_with_their_rewards(name: str) -> None:
    data = bandit(name)
    actions, rewards = data.actions.numpy(), data.rewards.numpy()
    assert actions.shape == (10_000, 2)
    assert np.abs(actions).max() <= 1
    assert (data.terminals == 1).all()
    centres = np.array(CENTRES[name])
    nearest = np.linalg.norm(actions[:, None] - centres[None], axis=2).argmin(axis=1)
    for index, mean in enumerate(REWARDS):
        of_one = nearest == index
        assert of_one.sum() == 2_500
        np.testing.assert_allclose(actions[of_one].mean(axis=0), centres[index], atol=0.005)
        np.testing.assert_allclose(actions[of_one].std(axis=0), 0.05, atol=0.003)
        assert rewards[of_one].mean() == pytest.approx(mean, abs=0.05)
        assert rewards[of_one].std() == pytest.approx(0.5, abs=0.03)


def test_corners_pay_as_in_the_paper() -> None:
    paid = dict(zip(CENTRES["bandit-corners"], REWARDS, strict=True))
    assert paid == {(-0.8, 0.8): 3.0, (-0.8, -0.8): 0.0, (0.8, 0.8): 1.5, (0.8, -0.8): 5.0}


def test_two_steps_are_walks_from_zero() -> None:
    data = two_steps()
    states, after, actions = (
        column.numpy().reshape(-1, 2, column.shape[1])
        for column in (data.observations, data.next_observations, data.actions)
    )
    np.testing.assert_array_equal(states[:, 0], 0)
    np.testing.assert_array_equal(states[:, 1], after[:, 0])
    np.testing.assert_allclose(after[..., 0], states[..., 0] + actions[..., 0], atol=1e-6)
    assert data.terminals.reshape(-1, 2).tolist()[0] == [0.0, 1.0]
    noise = data.rewards.numpy().reshape(-1, 2) - reward_on_the_line(after[..., 0])
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(0.5, abs=0.01)
    # Most of the data are where little is paid.
    assert np.mean(after[..., 0] < -0.5) < 0.25


def test_true_values_by_hand() -> None:
    """From the high peak the best second step stays there; from 1 the wide peak is in reach, the high one is not."""
    stay, far = true_first_values(np.array([-0.7, 1.0]))
    at_peak = reward_on_the_line(np.array([-0.7]))[0]
    assert stay == pytest.approx(at_peak * (1 + DISCOUNT), abs=0.1)
    assert far == pytest.approx(reward_on_the_line(np.array([1.0]))[0] + DISCOUNT * 4, abs=0.1)


def test_the_line_compares_every_method() -> None:
    variants = toys.variants_of("two-steps", None)
    assert {variant.method for variant in variants} == set(METHODS)
    labels = [variant.label for variant in variants]
    assert len(labels) == len(set(labels))
    assert {"erdp", "erdp without entropy", "erdp without ensemble"} <= set(labels)
    for variant in variants:
        assert variant.config.agent is not None


def test_names_follow_what_arrays_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    full, short = (toys.variants_of("bandit-axes", steps) for steps in (None, 10))
    assert toys.name_of("bandit-axes", full) == toys.name_of("bandit-axes", list(full))
    assert toys.name_of("bandit-axes", full) != toys.name_of("bandit-axes", short)
    line = toys.variants_of("two-steps", None)
    before = toys.name_of("two-steps", line)
    monkeypatch.setattr(toys, "PEAKS", ((0.5, 0.35, 0.25), (1.0, -0.75, 0.12)))
    assert toys.name_of("two-steps", line) != before


def test_cloning_finds_the_modes() -> None:
    """Enough steps that most samples are near a centre of the data."""
    settings = {"T": 10, "width": 64, "batch_size": 100, "eta": 0.0, "actor_lr": 2e-3}
    before = torch.get_num_threads()
    found, seconds = trained(Variant("bandit-corners", "cloning", "diffusion-ql", 1_500, settings))
    torch.set_num_threads(before)
    shares = in_modes(found["actions"][0], np.array(CENTRES["bandit-corners"]), 0.3)
    assert shares.sum() > 0.7
    assert shares.min() > 0.08
    assert seconds > 0


def test_what_is_read_off_the_line() -> None:
    settings = {"width": 16, "layers": 2, "batch_size": 32, "M": 3}
    before = torch.get_num_threads()
    found, _ = trained(Variant("two-steps", "erdp", "erdp", 20, settings, (0, 1)))
    without, _ = trained(Variant("two-steps", "bc", "bc", 20, {"width": 16, "batch_size": 32}, (0, 1)))
    torch.set_num_threads(before)
    assert found["q"].shape == (2, 3, 201)
    assert found["first_actions"].shape == found["returns"].shape == (2, 500)
    assert not np.array_equal(found["first_actions"][0], found["first_actions"][1])
    assert "q" not in without
    top = 2 * reward_on_the_line(np.linspace(-2, 2, 4001)).max()
    assert (found["returns"] <= top + 1e-6).all()


def test_the_command_trains_once_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--toy", "bandit-axes", "--steps", "20", "--ledger", str(tmp_path / "runs")]
    assert toys.main(arguments) == 0
    first = capsys.readouterr().out
    assert "8 variants of 20 steps" in first
    assert toys.main(arguments) == 0
    assert "done before" in capsys.readouterr().out
    ledger = Ledger.open(tmp_path / "runs")
    [name] = ledger.toys()
    record, arrays = ledger.toy(name)
    assert len(record["variants"]) == 8
    assert all(arrays[f"{index}/actions"].shape == (1, 1_000, 2) for index in range(8))
    assert (tmp_path / "runs" / "toys" / f"{name}.png").stat().st_size > 10_000
    assert make_toys.main(["--ledger", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{name}.png", f"{name}.svg"}

    (tmp_path / "runs" / "toys" / f"{name}.npz").write_bytes(b"nothing")
    with pytest.raises(LedgerError, match=r"is damaged: delete it and its \.json"):
        ledger.toy(name)
    for content in (b"nothing", b""):
        (tmp_path / "runs" / "toys" / f"{name}.npz").write_bytes(content)
        assert make_toys.main(["--ledger", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 1
        assert "is damaged: delete it and its .json" in capsys.readouterr().err
    for changed in ({"toy": "two-steps"}, {"variants": 5}, {"variants": []}):
        ledger.write_toy(name, {**record, **changed}, arrays)
        assert make_toys.main(["--ledger", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 1
        assert "or its .npz is damaged: delete both" in capsys.readouterr().err


def fails_for_two(number: int) -> int:
    if number == 2:
        raise FloatingPointError("two: a loss stopped being finite")
    return number * 10


def test_results_come_by_index_and_a_failure_is_one_line() -> None:
    with cluster.joined("local"):
        assert sorted(cluster.each(fails_for_two, [1, 3, 5], "local")) == [(0, 10), (1, 30), (2, 50)]
        with pytest.raises(cluster.TaskError, match=r"^FloatingPointError: two: a loss stopped being finite$") as error:
            list(cluster.each(fails_for_two, [1, 2], "local"))
    assert error.value.index == 1


def test_a_variant_that_fails_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> Iterator[tuple[int, object]]:
        yield 0, ({"actions": np.zeros((1, 3, 2))}, 0.1)
        raise cluster.TaskError(1, "FloatingPointError: a loss stopped being finite")

    monkeypatch.setattr(toys.cluster, "each", failing)
    assert toys.main(["--toy", "bandit-axes", "--ledger", str(tmp_path / "runs")]) == 1
    assert "failed: cloning, N = 50: FloatingPointError: a loss stopped being finite" in capsys.readouterr().err
    assert not Ledger.open(tmp_path / "runs").toys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--toy", "bandit-corner"], "unknown toy 'bandit-corner': did you mean 'bandit-corners'?"),
        (["--toy", "two-steps", "--steps", "0"], "--steps 0 is less than 1"),
        (["--toy", "sampling", "--steps", "5"], "--steps 5: the toy sampling trains nothing"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toys.main([*arguments, "--ledger", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err.strip() == f"error: {message}"


def test_a_ledger_without_toys_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger.open(tmp_path / "runs", create=True)
    assert make_toys.main(["--ledger", str(tmp_path / "runs")]) == 2
    assert "has no toy yet: train one with sweeps/toys.py" in capsys.readouterr().err


def test_optimal_sampling_brings_data_back_and_euler_steps_in_the_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--toy", "sampling", "--ledger", str(tmp_path / "runs")]
    assert toys.main(arguments) == 0
    ledger = Ledger.open(tmp_path / "runs")
    [name] = ledger.toys()
    _, arrays = ledger.toy(name)
    assert arrays["distance_optimal"].max() < 1e-5
    reverse = arrays["distance_reverse"]
    assert (np.diff(reverse) < 0).all()
    assert reverse[0] > 1
    # Euler's error goes with the step: of the last halving about half is left.
    assert reverse[-1] == pytest.approx(reverse[-2] / 2, rel=0.3)
    assert (tmp_path / "runs" / "toys" / f"{name}.png").stat().st_size > 10_000
    assert toys.main(arguments) == 0
    assert "done before" in capsys.readouterr().out


def test_points_go_to_noise_and_come_back(tmp_path: Path) -> None:
    assert toys.main(["--toy", "process", "--ledger", str(tmp_path / "runs")]) == 0
    ledger = Ledger.open(tmp_path / "runs")
    _, arrays = ledger.toy(ledger.toys()[0])
    np.testing.assert_allclose(arrays["back/0"], arrays["forward/0"], atol=1e-5)
    for t in (2, 10, 100):
        # The way back has the way there's distribution at every time.
        np.testing.assert_allclose(arrays[f"back/{t}"].mean(axis=0), arrays[f"forward/{t}"].mean(axis=0), atol=0.08)
        np.testing.assert_allclose(arrays[f"back/{t}"].std(axis=0), arrays[f"forward/{t}"].std(axis=0), atol=0.08)
    np.testing.assert_allclose(arrays["forward/100"].std(axis=0), 1, atol=0.05)
