"""A policy from a file of weights: what collections are made with.

Two kinds of file are read. `.npz`, as `numpy.savez` writes it, in one of the two layouts below, with any number of
hidden layers; every key is a numeric array, weights are [out, in]. An activation has no key of its own: it follows from
the layout, which follows from the keys.

* Layers `fc0.weight`, `fc0.bias`, `fc1.weight`, ..., then the heads `last_fc.*` and `last_fc_log_std.*`, as D4RL's ant
  policy has them: ReLU after each hidden layer, actions tanh(mean + std * noise), log std within [-20, 2].
* Layers `w0`, `b0`, `w1`, ... with `in_shift`, `in_scale` [O], `out_shift`, `out_scale` [A], as DAPG's policies have
  them: input (s - in_shift) / (in_scale + 1e-8), tanh after each hidden layer, output * out_scale + out_shift, clipped
  to [-1, 1]. `log_std`, the noise of their training, may be there and is not used.

`.pt`: a TorchScript module (`torch.jit.script(module).save(path)`), called with float32 observations [N, O], giving
actions [N, A]. Any network fits into one. Loading it RUNS CODE from the file: take it only from whom you trust.
"""

import hashlib
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from erdp_core.data.d4rl import first_line, plain
from erdp_core.data.transitions import Floats
from erdp_core.errors import DataError

GAUSSIAN_KEYS = "fc0.weight, fc0.bias, ..., last_fc.weight, last_fc.bias, last_fc_log_std.weight, last_fc_log_std.bias"
SCALED_KEYS = "w0, b0, w1, b1, ..., in_shift, in_scale, out_shift, out_scale"


class Policy(ABC):
    """Actions for observations."""

    def __init__(self, path: Path, sizes: tuple[int, int]) -> None:
        """`sizes`: of an observation and an action."""
        self.path = path
        self.observation_size, self.action_size = sizes
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def act(self, observations: Floats, noise: Floats | None = None) -> Floats:
        """Actions [N, A] in [-1, 1] for observations [N, O].

        `noise`: standard normal numbers [N, A], for a draw from a policy that is a Gaussian (others do without them);
        its mean where there are none. Raises DataError where actions have another shape or are not finite.
        """
        actions = self._actions(observations.astype(np.float32, copy=False), noise)
        expected = (len(observations), self.action_size)
        if actions.shape != expected:
            raise DataError(f"{self.path}: its actions have shape {actions.shape}, not {expected}")
        if not np.isfinite(actions).all():
            raise DataError(f"{self.path}: it gave actions that are NaN or infinite")
        return np.clip(actions, -1.0, 1.0)

    @abstractmethod
    def _actions(self, observations: Floats, noise: Floats | None) -> Floats: ...


class TanhGaussianPolicy(Policy):
    """The first layout of `.npz`."""

    def __init__(self, path: Path, weights: Mapping[str, Floats]) -> None:
        layers = _count(weights, r"fc(\d+)\.(?:weight|bias)")
        self._hidden = [(f"fc{number}.weight", f"fc{number}.bias") for number in range(layers)]
        self._mean, self._log_std = ((f"{head}.weight", f"{head}.bias") for head in ("last_fc", "last_fc_log_std"))
        _check_keys(path, weights, [key for pair in (*self._hidden, self._mean, self._log_std) for key in pair])
        sizes = _check_chain(path, weights, [*self._hidden, self._mean])
        if _check_chain(path, weights, [*self._hidden, self._log_std]) != sizes:
            raise DataError(f"{path}: last_fc and last_fc_log_std are not of one size")
        super().__init__(path, sizes)
        self._weights = weights

    def _actions(self, observations: Floats, noise: Floats | None) -> Floats:
        hidden = observations
        for layer in self._hidden:
            hidden = np.maximum(_linear(self._weights, layer, hidden), 0.0)
        mean = _linear(self._weights, self._mean, hidden)
        if noise is not None:
            log_std = np.clip(_linear(self._weights, self._log_std, hidden), -20.0, 2.0)
            mean = mean + np.exp(log_std) * noise.astype(np.float32, copy=False)
        actions: Floats = np.tanh(mean)
        return actions


class ScaledPolicy(Policy):
    """The second layout of `.npz`."""

    def __init__(self, path: Path, weights: Mapping[str, Floats]) -> None:
        self._layers = [(f"w{number}", f"b{number}") for number in range(_count(weights, r"[wb](\d+)"))]
        scales = {"in_shift": 0, "in_scale": 0, "out_shift": 1, "out_scale": 1}
        _check_keys(path, weights, [*(key for pair in self._layers for key in pair), *scales], optional=("log_std",))
        sizes = _check_chain(path, weights, self._layers)
        for key, end in scales.items():
            _check_shape(path, weights, key, (sizes[end],))
        super().__init__(path, sizes)
        self._weights = weights

    def _actions(self, observations: Floats, noise: Floats | None) -> Floats:
        weights = self._weights
        values = (observations - weights["in_shift"]) / (weights["in_scale"] + np.float32(1e-8))
        for layer in self._layers[:-1]:
            values = np.tanh(_linear(weights, layer, values))
        return _linear(weights, self._layers[-1], values) * weights["out_scale"] + weights["out_shift"]


class TorchScriptPolicy(Policy):
    """A module from a `.pt` file. Making one runs code from the file."""

    def __init__(self, path: Path, sizes: tuple[int, int], seed: int) -> None:
        import torch  # slow to import, and not needed for other policies

        super().__init__(path, sizes)
        self._torch = torch
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch prefers another format, which fewer write
                self._module = torch.jit.load(path, map_location="cpu").eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(
                f"{path} is damaged or no TorchScript file ({first_line(error)}): "
                "write it with torch.jit.script(module).save(path)"
            ) from None
        self.act(np.zeros((2, sizes[0]), np.float32))
        torch.manual_seed(seed)

    def _actions(self, observations: Floats, noise: Floats | None) -> Floats:
        torch = self._torch
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the layers are small, and the simulator needs the cores
        try:
            with torch.inference_mode():
                actions = self._module(torch.tensor(observations))
        except Exception as error:  # it is the file's own code that runs here
            told = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise DataError(
                f"{self.path}: it does not take float32 observations {list(observations.shape)} "
                f"({(told or [type(error).__name__])[-1]})"
            ) from None
        finally:
            torch.set_num_threads(threads)
        if not isinstance(actions, torch.Tensor) or not actions.is_floating_point():
            kind = actions.dtype if isinstance(actions, torch.Tensor) else type(actions).__name__
            raise DataError(f"{self.path}: it gives {kind}, not a tensor of actions")
        if actions.layout != torch.strided or actions.is_meta:
            raise DataError(f"{self.path}: it gives a tensor without plain values")
        found: Floats = actions.detach().float().numpy()
        return found


def load_policy(path: Path, observation_size: int, action_size: int, user: str, seed: int = 0) -> Policy:
    """The policy in a file; `user`: what it is to act in, as an error calls it.

    `seed`: of torch's global stream, from which a TorchScript module that draws random numbers of its own takes them.

    Raises DataError, in one line, for a file that is missing, damaged, in no known layout or not numeric, holds NaN or
    infinite weights or layers that do not fit together, or takes or gives vectors of another size.
    """
    if not path.is_file():
        raise DataError(f"no policy file {path}")
    if path.suffix == ".pt":
        return TorchScriptPolicy(path, (observation_size, action_size), seed)
    if path.suffix != ".npz":
        raise DataError(f"{path}: a policy is a .npz file of weights or a .pt file of TorchScript, told by the ending")
    weights = _read_weights(path)
    if "last_fc.weight" in weights:
        policy: Policy = TanhGaussianPolicy(path, weights)
    elif "w0" in weights:
        policy = ScaledPolicy(path, weights)
    else:
        present = plain(", ".join(sorted(weights)) or "none")
        raise DataError(f"{path}: keys of no known policy ({present}): expected {GAUSSIAN_KEYS}, or {SCALED_KEYS}")
    ours, theirs = (policy.observation_size, policy.action_size), (observation_size, action_size)
    for what, found, expected in zip(("observations", "actions"), ours, theirs, strict=True):
        if found != expected:
            raise DataError(f"{path}: a policy for {what} of size {found}, but those of {user} are of size {expected}")
    return policy


def _read_weights(path: Path) -> dict[str, Floats]:
    """Every array of a `.npz` file as float32. Nothing in it is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key]) for key in file.files}  # a member that is no array comes as bytes
    except Exception as error:  # a damaged archive fails in any of a dozen ways of zipfile, zlib and NumPy
        raise DataError(f"{path} is damaged or no .npz file of plain arrays ({first_line(error)})") from None
    weights = {}
    for key, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise DataError(f"{path}: key {key!r} is not numeric (it is {array.dtype})")
        with np.errstate(over="ignore"):  # beyond float32: infinite, which is refused with other infinite values
            weights[key] = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(weights[key]).all():
            raise DataError(f"{path}: key {key!r} holds values that are NaN or infinite")
    return weights


def _count(weights: Mapping[str, Floats], pattern: str) -> int:
    """How many layers the keys number."""
    return len({match[1] for key in weights if (match := re.fullmatch(pattern, key))})


def _check_keys(path: Path, weights: Mapping[str, Floats], expected: list[str], optional: tuple[str, ...] = ()) -> None:
    # Whether a policy with more than these keys would do without them, nobody knows.
    trouble = [f"key {key!r} is missing" for key in expected if key not in weights]
    trouble += [f"key {key!r} is unknown" for key in weights if key not in (*expected, *optional)]
    if trouble:
        raise DataError(f"{path}: {trouble[0]}: expected are {', '.join(expected)}")


def _check_chain(path: Path, weights: Mapping[str, Floats], layers: list[tuple[str, str]]) -> tuple[int, int]:
    """Sizes of input and output of layers that fit together; DataError where they do not."""
    sizes: list[int] = []
    for weight, bias in layers:
        shape = weights[weight].shape
        if len(shape) != 2 or 0 in shape:
            raise DataError(f"{path}: key {weight!r} has shape {shape}, not [out, in]")
        sizes = sizes or [shape[1]]
        _check_shape(path, weights, weight, (shape[0], sizes[-1]))
        _check_shape(path, weights, bias, (shape[0],))
        sizes.append(shape[0])
    return sizes[0], sizes[-1]


def _check_shape(path: Path, weights: Mapping[str, Floats], key: str, expected: tuple[int, ...]) -> None:
    if weights[key].shape != expected:
        raise DataError(f"{path}: key {key!r} has shape {weights[key].shape}, not {expected} as the layers need")


def _linear(weights: Mapping[str, Floats], layer: tuple[str, str], values: Floats) -> Floats:
    weight, bias = layer
    # Not a matrix product: its threads would take the cores from the simulator, and its rounding depends on how many
    # rows there are. This costs a hundredth of a simulator's step.
    product: Floats = np.einsum("ni,oi->no", values, weights[weight])
    return product + weights[bias]
