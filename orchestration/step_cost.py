"""What a step costs: its arithmetic, and the milliseconds that packs of some sizes were measured to take."""

import itertools
import json
import platform
from collections.abc import Mapping, Sequence

from erdp_core.agent_configs import (
    AgentConfig,
    BcDiffusionConfig,
    CqlConfig,
    DiffusionQlConfig,
    ErdpConfig,
    GaussianEnsembleConfig,
    ImplicitQConfig,
    IqlConfig,
    MsgConfig,
    Td3BcConfig,
)
from orchestration.ledger import Ledger, LedgerError, read_json, write_json
from orchestration.plan import Run

STEP_OVERHEAD = 0.2
"""GFLOP that a step's fixed cost is worth on a CPU core: calls, not arithmetic. It is why runs train in packs."""
ASSUMED_GFLOPS = {"cpu": 40.0, "cuda": 5000.0}
"""GFLOP/s that an estimate without a measurement assumes: of one core, of one GPU."""
Measured = dict[int, float | None]
"""Milliseconds of a step by how many runs train at once; None where they do not fit in memory."""


def step_gflop(agent: AgentConfig, observation: int, action: int) -> float:
    """Arithmetic of one training step of one run in GFLOP: its matrix products, a backward pass counting double.

    observation, action: sizes of an observation and an action.
    """
    hidden = (agent.layers - 1) * agent.width**2

    def forward(inputs: int, outputs: int) -> float:
        """Of a batch through one network."""
        return 2 * agent.batch_size * (inputs * agent.width + hidden + agent.width * outputs) / 1e9

    critic = forward(observation + action, 1)
    # Critics: forward and backward. The actor's step: forward, and backward to the actions alone.
    regression, at_actions = 3 * critic, 2 * critic
    diffusion, gaussian = forward(observation + action + 16, action), forward(observation, action)
    if isinstance(agent, ErdpConfig | DiffusionQlConfig):
        M = agent.M if isinstance(agent, ErdpConfig) else 2
        next_actions = agent.max_q_actions if agent.max_q_backup else 1
        # Target: the chain and the target critics on each next action.
        total = 3 * diffusion + next_actions * (agent.T * diffusion + M * critic) + M * (regression + at_actions)
        if isinstance(agent, DiffusionQlConfig):
            # Gradients go through a whole chain; with eta = 0 there is none.
            total += 3 * agent.T * diffusion if agent.eta else -M * at_actions
        return total
    if isinstance(agent, BcDiffusionConfig):
        return 3 * diffusion
    if isinstance(agent, ImplicitQConfig):
        # The target critics on the data, values forward and backward and twice forward, critics.
        value = forward(observation, 1)
        policy = gaussian if isinstance(agent, IqlConfig) else diffusion
        return 2 * critic + 5 * value + 2 * regression + 3 * policy
    if isinstance(agent, Td3BcConfig):
        return 4 * gaussian + 2 * (critic + regression + at_actions)
    if isinstance(agent, CqlConfig):
        return 7 * gaussian + 2 * (critic + (1 + 3 * agent.sampled_actions) * regression + at_actions)
    if isinstance(agent, MsgConfig):
        return 5 * gaussian + agent.M * (critic + 2 * regression + at_actions)
    if isinstance(agent, GaussianEnsembleConfig):
        return 7 * gaussian + agent.M * (critic + regression + at_actions)
    return 3 * gaussian


def step_work(run: Run) -> float:
    """GFLOP that a step of one run is worth beside that of others, as if it were alone in its pack."""
    return STEP_OVERHEAD + _step_gflop(run)


def _step_gflop(run: Run) -> float:
    return step_gflop(run.config.agent, run.dataset["observation_size"], run.dataset["action_size"])


def probed_sizes(runs: int) -> list[int]:
    """1, 2, 4, ... and all: sizes of packs that tell of those between."""
    return [*itertools.takewhile(lambda size: size < runs, (2**power for power in itertools.count())), runs]


def device_name(device: str) -> str:
    """The device of this machine that packs train on."""
    if device == "cpu":
        return platform.processor() or platform.machine()
    import torch

    return torch.cuda.get_device_name()


class StepCosts:
    """Milliseconds of a step of runs that train together on one kind of device, measured or estimated.

    What was measured is kept in the ledger, by all that a step's time depends on.
    """

    def __init__(self, ledger: Ledger, device: str, name: str, cores: int) -> None:
        """device: cpu or cuda. name: which one. cores: that a pack has."""
        self.device = device
        self.name = name
        self.cores = cores
        self._path = ledger.root / "probes.json"
        try:
            self._known = _readable(read_json(self._path))
        except LedgerError:
            self._known = {}  # there is none, or it is damaged: it only saves measuring anew

    def milliseconds(self, runs: Sequence[Run]) -> float:
        """Of a step of runs of one shape; infinite where as many were found not to fit in memory."""
        measured, count = self.measured(runs[0]), len(runs)
        too_many = [size for size, found in measured.items() if found is None]
        if too_many and count >= min(too_many):
            return float("inf")
        sizes = {size: found for size, found in sorted(measured.items()) if found is not None}
        if not sizes:
            return self._estimate(runs[0], count)
        if count in sizes:
            return sizes[count]
        below, above = [size for size in sizes if size < count], [size for size in sizes if size > count]
        if below and above:
            low, high = below[-1], above[0]
            return sizes[low] + (sizes[high] - sizes[low]) * (count - low) / (high - low)
        nearest = (below or above[::-1])[-1]
        return sizes[nearest] * self._estimate(runs[0], count) / self._estimate(runs[0], nearest)

    def shapes(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Of each shape of some runs, the most that could be one pack."""
        groups: dict[tuple[str, str], list[Run]] = {}
        for run in runs:
            groups.setdefault((self.key(run), run.pack_key), []).append(run)
        largest: dict[str, list[Run]] = {}
        for (key, _), group in groups.items():
            largest[key] = max(largest.get(key, []), group, key=len)
        return list(largest.values())

    def knows(self, runs: Sequence[Run]) -> bool:
        """Whether packs of up to so many runs were measured, as far as they fit."""
        measured = self.measured(runs[0])
        return None in measured.values() or set(probed_sizes(len(runs))) <= set(measured)

    def is_measured(self, runs: Sequence[Run]) -> bool:
        """Whether `milliseconds` rests on a measurement."""
        return any(found is not None for found in self.measured(runs[0]).values())

    def hours(self, runs: Sequence[Run]) -> float:
        """Of the whole training of a pack, evaluation not counted."""
        return self.milliseconds(runs) * runs[0].config.trainer.steps / 3.6e6

    def measured(self, run: Run) -> Measured:
        """What is known of packs of runs of this one's shape."""
        return self._known.get(self.key(run), {})

    def learn(self, run: Run, measured: Measured) -> None:
        """Remember what was measured of a shape. Raises StorageError where the ledger cannot be written."""
        self._known[self.key(run)] = {**self.measured(run), **measured}
        as_text = {key: {str(size): found for size, found in one.items()} for key, one in self._known.items()}
        write_json(self._path, as_text)

    def key(self, run: Run) -> str:
        """All that a step's time depends on, but how many runs train at once."""
        agent = run.config.to_dict()["agent"]
        shape = {
            name: agent.get(name)
            for name in ("M", "T", "width", "layers", "batch_size", "diffusion_loss", "max_q_backup", "max_q_actions")
        }
        sizes = [run.dataset["observation_size"], run.dataset["action_size"]]
        where = [self.device, self.name, self.cores]
        return json.dumps([run.method, shape, run.config.trainer.precision, sizes, where], sort_keys=True)

    def _estimate(self, run: Run, count: int) -> float:
        rate = ASSUMED_GFLOPS[self.device] * (self.cores if self.device == "cpu" else 1)
        return (STEP_OVERHEAD + count * _step_gflop(run)) / rate * 1e3


def _readable(record: Mapping[str, object]) -> dict[str, Measured]:
    """What a file of measurements says. Raises LedgerError where it is no such file."""
    try:
        return {
            key: {int(size): None if found is None else float(found) for size, found in one.items()}
            for key, one in record.items()
            if isinstance(one, dict)
        }
    except (TypeError, ValueError) as error:
        raise LedgerError(f"measurements of steps are not numbers: {error}") from None
