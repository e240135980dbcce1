"""Policies from files: against torch's own layers, D4RL's and DAPG's real ones, and files that are none."""

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from erdp_core.data.policy_file import load_policy
from erdp_core.errors import DataError

Weights = dict[str, npt.NDArray[Any]]


def gaussian_weights(sizes: list[int], seed: int = 0) -> Weights:
    """The first layout: sizes of input, hidden layers, output."""
    stream = np.random.default_rng(seed)
    shapes = {f"fc{number}": pair for number, pair in enumerate(zip(sizes[1:-1], sizes[:-2], strict=True))}
    shapes |= dict.fromkeys(("last_fc", "last_fc_log_std"), (sizes[-1], sizes[-2]))
    weights: Weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = stream.normal(0, 0.5, shape).astype(np.float32)
        weights[f"{name}.bias"] = stream.normal(0, 0.5, shape[0]).astype(np.float32)
    return weights


def scaled_weights(sizes: list[int], seed: int = 0) -> Weights:
    """The second layout."""
    stream = np.random.default_rng(seed)
    weights: Weights = {}
    for number, (out, into) in enumerate(zip(sizes[1:], sizes[:-1], strict=True)):
        weights[f"w{number}"] = stream.normal(0, 0.5, (out, into)).astype(np.float32)
        weights[f"b{number}"] = stream.normal(0, 0.5, out).astype(np.float32)
    for end, size in (("in", sizes[0]), ("out", sizes[-1])):
        weights[f"{end}_shift"] = stream.normal(0, 0.3, size).astype(np.float32)
        weights[f"{end}_scale"] = stream.uniform(0.5, 2.0, size).astype(np.float32)
    return weights


def saved(path: Path, weights: Weights) -> Path:
    np.savez(path, **weights)  # type: ignore[arg-type]
    return path


def scripted(path: Path, module: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(path)
    return path


def linear(weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    return layer


SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=5)


@given(sizes=SIZES, rows=st.integers(1, 6), seed=st.integers(0, 99))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_tanh_gaussian_layout_is_torchs_relu_network(tmp_path: Path, sizes: list[int], rows: int, seed: int) -> None:
    weights = gaussian_weights(sizes, seed)
    policy = load_policy(saved(tmp_path / "policy.npz", weights), sizes[0], sizes[-1], "a test")
    stream = np.random.default_rng(seed)
    observations = stream.normal(0, 2, (rows, sizes[0])).astype(np.float32)
    noise = stream.normal(size=(rows, sizes[-1])).astype(np.float32)
    hidden = nn.Sequential()
    for number in range(len(sizes) - 2):
        hidden.extend([linear(weights[f"fc{number}.weight"], weights[f"fc{number}.bias"]), nn.ReLU()])
    with torch.no_grad():
        values = hidden(torch.from_numpy(observations))
        mean = linear(weights["last_fc.weight"], weights["last_fc.bias"])(values)
        log_std = linear(weights["last_fc_log_std.weight"], weights["last_fc_log_std.bias"])(values)
        drawn = torch.tanh(mean + log_std.clamp(-20, 2).exp() * torch.from_numpy(noise))
    np.testing.assert_allclose(policy.act(observations), torch.tanh(mean), atol=2e-6)
    np.testing.assert_allclose(policy.act(observations, noise), drawn, atol=1e-4)


@given(sizes=SIZES, rows=st.integers(1, 6), seed=st.integers(0, 99))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_scaled_layout_is_torchs_tanh_network(tmp_path: Path, sizes: list[int], rows: int, seed: int) -> None:
    weights = scaled_weights(sizes, seed) | {"log_std": np.full(sizes[-1], 3.0)}
    policy = load_policy(saved(tmp_path / "policy.npz", weights), sizes[0], sizes[-1], "a test")
    observations = np.random.default_rng(seed).normal(0, 2, (rows, sizes[0])).astype(np.float32)
    network = nn.Sequential()
    for number in range(len(sizes) - 1):
        network.extend([linear(weights[f"w{number}"], weights[f"b{number}"]), nn.Tanh()])
    with torch.no_grad():
        inputs = (observations - weights["in_shift"]) / (weights["in_scale"] + 1e-8)
        outputs = network[:-1](torch.from_numpy(inputs)).numpy() * weights["out_scale"] + weights["out_shift"]
    expected = outputs.clip(-1, 1)
    np.testing.assert_allclose(policy.act(observations), expected, atol=5e-6)
    noise = np.ones((rows, sizes[-1]), np.float32)
    np.testing.assert_array_equal(policy.act(observations, noise), policy.act(observations))  # its training's noise


class Squashed(nn.Module):
    """tanh(scale x), the first two of its numbers."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.scale * observations[:, :2])


class Drawn(nn.Module):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return 0.1 * torch.randn(observations.shape[0], 2)


class Wide(nn.Module):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return 5.0 * observations[:, :2]


class Pair(nn.Module):
    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return observations, observations


class Whole(nn.Module):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.zeros(observations.shape[0], 2, dtype=torch.int64)


class Infinite(nn.Module):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations[:, :2] / 0.0


def test_torchscript_acts_as_the_module_does(tmp_path: Path) -> None:
    observations = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    threads = torch.get_num_threads()
    policy = load_policy(scripted(tmp_path / "policy.pt", Squashed(0.7)), 3, 2, "a test")
    actions = policy.act(observations)
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions, np.tanh(0.7 * observations[:, :2]), rtol=1e-5)
    assert torch.get_num_threads() == threads
    clipped = load_policy(scripted(tmp_path / "wide.pt", Wide()), 3, 2, "a test").act(observations)
    np.testing.assert_allclose(clipped, np.clip(5 * observations[:, :2], -1, 1), rtol=1e-6)


def test_a_torchscript_module_draws_from_the_seeds_stream(tmp_path: Path) -> None:
    path = scripted(tmp_path / "policy.pt", Drawn())
    observations = np.zeros((4, 3), np.float32)
    first, second, other = (load_policy(path, 3, 2, "a test", seed).act(observations) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert (first != other).all()


@pytest.mark.parametrize("layout", [gaussian_weights, scaled_weights])
def test_an_action_does_not_depend_on_the_rows_beside_it(tmp_path: Path, layout: Callable[..., Weights]) -> None:
    policy = load_policy(saved(tmp_path / "policy.npz", layout([29, 256, 256, 8])), 29, 8, "a test")
    observations = np.random.default_rng(0).normal(size=(50, 29)).astype(np.float32)
    together = policy.act(observations)
    for rows in (slice(0, 1), slice(7, 8), slice(10, 13), slice(20, 50)):
        np.testing.assert_array_equal(policy.act(observations[rows]), together[rows])


def test_the_real_policies(test_data: Path) -> None:
    """D4RL's ant and DAPG's pen, as the notes on these files describe them."""
    stream = np.random.default_rng(1)
    path = test_data / "policies" / "d4rl_ant_goal_reaching.npz"
    ant, inputs, noise = load_policy(path, 29, 8, "an ant"), stream.normal(size=(5, 29)), stream.normal(size=(5, 8))
    with np.load(path) as weights:
        hidden = inputs
        for name in ("fc0", "fc1"):
            hidden = np.maximum(hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"], 0)
        mean, log_std = (
            hidden @ weights[f"{head}.weight"].T + weights[f"{head}.bias"] for head in ("last_fc", "last_fc_log_std")
        )
    expected = np.tanh(mean + np.exp(np.clip(log_std, -20, 2)) * noise)
    np.testing.assert_allclose(ant.act(inputs.astype(np.float32), noise.astype(np.float32)), expected, atol=1e-4)
    pen = load_policy(test_data / "policies" / "dapg_pen.npz", 45, 24, "a pen")
    assert (pen.observation_size, pen.action_size) == (45, 24)
    with pytest.raises(DataError, match=r"a policy for observations of size 29, but those of a pen are of size 45"):
        load_policy(path, 45, 24, "a pen")


def without(key: str) -> Callable[[Weights], Any]:
    return lambda weights: weights.pop(key)


def changed(key: str, value: Any) -> Callable[[Weights], Any]:
    return lambda weights: weights.update({key: value})


@pytest.mark.parametrize(
    ("layout", "harm", "message"),
    [
        (gaussian_weights, without("fc0.bias"), "key 'fc0.bias' is missing: expected are fc0.weight, fc0.bias, fc1.we"),
        (gaussian_weights, without("last_fc_log_std.weight"), "key 'last_fc_log_std.weight' is missing"),
        (gaussian_weights, without("last_fc.weight"), r"keys of no known policy \(fc0.bias, .*expected fc0.weight.*w0"),
        (gaussian_weights, changed("norm.weight", np.ones(3)), "key 'norm.weight' is unknown"),
        (gaussian_weights, changed("fc7.weight", np.ones((3, 3))), "key 'fc2.weight' is missing"),
        (gaussian_weights, changed(f"fc{'9' * 5000}.bias", np.ones(3)), "key 'fc2.weight' is missing"),
        (
            gaussian_weights,
            changed("fc1.weight", np.ones((6, 4))),
            r"key 'fc1.weight' has shape \(6, 4\), not \(6, 5\)",
        ),
        (gaussian_weights, changed("fc1.bias", np.ones(5)), r"key 'fc1.bias' has shape \(5,\), not \(6,\) as the lay"),
        (gaussian_weights, changed("fc0.weight", np.ones(5)), r"key 'fc0.weight' has shape \(5,\), not \[out, in\]"),
        (gaussian_weights, changed("fc0.weight", np.ones((5, 0))), r"has shape \(5, 0\), not \[out, in\]"),
        (gaussian_weights, changed("fc0.bias", np.full(5, np.nan)), "key 'fc0.bias' holds values that are NaN or inf"),
        (gaussian_weights, changed("fc0.bias", np.full(5, 1e300)), "key 'fc0.bias' holds values that are NaN or inf"),
        (gaussian_weights, changed("fc0.bias", np.array(list("abcde"))), "key 'fc0.bias' is not numeric"),
        (gaussian_weights, changed("fc0.bias", np.ones(5, complex)), "key 'fc0.bias' is not numeric"),
        (
            gaussian_weights,
            changed("fc0.bias", np.array([{}] * 5)),
            "no .npz file of plain arrays .*allow_pickle=False",
        ),
        (scaled_weights, without("in_shift"), "key 'in_shift' is missing: expected are w0, b0, w1"),
        (scaled_weights, without("b1"), "key 'b1' is missing"),
        (scaled_weights, without("w0"), "keys of no known policy"),
        (scaled_weights, changed("out_scale", np.ones(3)), r"key 'out_scale' has shape \(3,\), not \(2,\)"),
        (scaled_weights, changed("activation", np.array("relu")), "key 'activation' is not numeric"),
        (scaled_weights, lambda weights: weights.clear(), r"keys of no known policy \(none\)"),
    ],
)
def test_bad_weights_are_told_in_one_line(
    tmp_path: Path, layout: Callable[..., Weights], harm: Callable[[Weights], Any], message: str
) -> None:
    weights = layout([4, 5, 6, 2])
    load_policy(saved(tmp_path / "good.npz", weights), 4, 2, "a test")
    harm(weights)
    with pytest.raises(DataError, match=message) as raised:
        load_policy(saved(tmp_path / "bad.npz", weights), 4, 2, "a test")
    assert "\n" not in str(raised.value)
    assert "bad.npz" in str(raised.value)


def test_heads_of_unequal_size(tmp_path: Path) -> None:
    weights = gaussian_weights([4, 5, 2])
    weights |= {"last_fc_log_std.weight": np.ones((3, 5)), "last_fc_log_std.bias": np.ones(3)}
    with pytest.raises(DataError, match="last_fc and last_fc_log_std are not of one size"):
        load_policy(saved(tmp_path / "bad.npz", weights), 4, 2, "a test")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(5, 2), r"it does not take float32 observations \[2, 3\] \(.*2x3 and 5x2"),
        (nn.Linear(3, 4), r"its actions have shape \(2, 4\), not \(2, 2\)"),
        (Pair(), "it gives tuple, not a tensor of actions"),
        (Whole(), "it gives torch.int64, not a tensor of actions"),
        (Infinite(), "it gave actions that are NaN or infinite"),
    ],
)
def test_a_module_that_does_not_fit(tmp_path: Path, module: nn.Module, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        load_policy(scripted(tmp_path / "policy.pt", module), 3, 2, "a test")
    assert "\n" not in str(raised.value)


class Trap:
    """Unpickling one shows."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import sys; sys.modules['builtins'].sprung = True",)


def files_that_are_no_policy(folder: Path) -> dict[str, Path]:
    array, pickled = io.BytesIO(), pickle.dumps(Trap())
    np.save(array, np.ones(3))
    with zipfile.ZipFile(folder / "zip", "w") as archive:
        archive.writestr("readme.txt", "weights")
    torch.save(nn.Linear(3, 2), folder / "saved.pt")
    contents = {
        "empty.npz": b"",
        "array.npz": array.getvalue(),
        "text.npz": b"weights",
        "pickle.npz": pickled,
        "zip.npz": (folder / "zip").read_bytes(),
        "empty.pt": b"",
        "pickle.pt": pickled,
        "zip.pt": (folder / "zip").read_bytes(),
        "text.pth": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.npz").mkdir()
    return {name: folder / name for name in (*contents, "saved.pt", "folder.npz", "missing.npz")}


def test_files_that_are_no_policy(tmp_path: Path) -> None:
    for name, path in files_that_are_no_policy(tmp_path).items():
        with pytest.raises(DataError, match=re.escape(name)) as raised:
            load_policy(path, 3, 2, "a test")
        assert "\n" not in str(raised.value), name
    assert not hasattr(__builtins__, "sprung")


GOOD = io.BytesIO()
np.savez(GOOD, **gaussian_weights([3, 4, 2]))  # type: ignore[arg-type]
PLACES = st.integers(0, len(GOOD.getvalue()))


@given(length=st.one_of(st.none(), PLACES), changes=st.lists(st.tuples(PLACES, st.integers(0, 255)), max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_damaged_file_is_told_or_gives_the_right_policy(
    tmp_path: Path, length: int | None, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(GOOD.getvalue())[:length]
    for place, value in changes:
        content[place : place + 1] = bytes([value])
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    good.write_bytes(GOOD.getvalue())
    bad.write_bytes(content)
    observations = np.ones((2, 3), np.float32)
    try:
        policy = load_policy(bad, 3, 2, "a test")
    except DataError as error:
        told = str(error)
    else:
        told = "nothing"
        np.testing.assert_array_equal(policy.act(observations), load_policy(good, 3, 2, "a test").act(observations))
    assert "\n" not in told
