"""Any environment of gymnasium's registry, made to look like those of the benchmark: flat, with actions in [-1, 1]."""

import contextlib
import difflib
import io
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box
from gymnasium.wrappers import FlattenObservation, RescaleAction

from erdp_core.errors import UserError

Environment = gymnasium.Env[Any, Any]


class CheckedEnvironment(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Tells what is wrong with an environment of the user's own in one line; keeps the options of `reset` from it.

    `reset` and `step` raise UserError where the environment raises anything, gives observations that are not of its
    space's shape, or numbers that are NaN or infinite. Observations are copies in float64.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As without `options`."""
        with self._told("reset"):
            observation, info = self.env.reset(seed=seed)
            return self._checked(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As without checks."""
        with self._told("step"):
            observation, reward, terminated, truncated, info = self.env.step(action)
            if not math.isfinite(reward):
                raise ValueError(f"its reward is {reward}")
            return self._checked(observation), float(reward), bool(terminated), bool(truncated), info

    def _checked(self, observation: Any) -> npt.NDArray[np.float64]:
        numbers = np.array(observation, np.float64)
        if numbers.shape != self.observation_space.shape:
            raise ValueError(f"its observation has shape {numbers.shape}, its space {self.observation_space.shape}")
        if not np.isfinite(numbers).all():
            raise ValueError("its observation has values that are NaN or infinite")
        return numbers

    @contextlib.contextmanager
    def _told(self, method: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # it is the user's code that runs here
            name = self.env.spec.id if self.env.spec else type(self.unwrapped).__name__
            raise UserError(f"environment {name!r} failed in {method}: {_told(error)}") from error


def flat_environment(
    environment_id: str, options: Mapping[str, Any] | None = None, render_mode: str | None = None
) -> Environment:
    """The environment with flat observations and actions in [-1, 1].

    environment_id: as `gymnasium.make` takes it, `module:Name-v0` too; gymnasium-robotics' are known.
    options: what `gymnasium.make` takes beside it, such as `max_episode_steps` and arguments of the environment's own.

    Observations that are dictionaries of Boxes, or Boxes of more than one axis, go through gymnasium's
    FlattenObservation: keys one after the other in the order of the space. Actions of a Box with other bounds go
    through RescaleAction: -1 and 1 are the bounds. Raises UserError for an unknown id (it names the nearest), for
    options that the environment does not take, observations that are anything else, actions that are no vector with
    finite bounds, and an environment that cannot be written down as JSON.
    """
    environment = _make(environment_id, options or {}, render_mode)
    space, actions = environment.observation_space, environment.action_space
    if not _flattens(space):
        raise UserError(f"{environment_id}: its observations cannot be flattened to a vector of numbers: {space}")
    if not isinstance(actions, Box) or len(actions.shape) != 1 or actions.dtype.kind != "f":
        raise UserError(f"{environment_id}: its actions are no vector of real numbers, as policies give: {actions}")
    if not actions.is_bounded():
        raise UserError(f"{environment_id}: its actions have no bounds to scale [-1, 1] to: {actions}")
    try:
        assert environment.spec is not None
        environment.spec.to_json()
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{environment_id} cannot be recorded with the data ({_told(error)}): register it with an entry point "
            "as text, module:Class, and arguments that are numbers and text"
        ) from None
    if not isinstance(space, Box) or len(space.shape) != 1:
        environment = FlattenObservation(environment)
    if (actions.low != -1.0).any() or (actions.high != 1.0).any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that bounds are rounded to float32
            environment = RescaleAction(environment, -1.0, 1.0)  # type: ignore[arg-type]  # numbers, as JSON holds them
    return environment


def registered_environments() -> Mapping[str, "gymnasium.envs.registration.EnvSpec"]:
    """Gymnasium's registry, by id, with gymnasium-robotics' environments."""
    with contextlib.redirect_stderr(io.StringIO()):  # it prints advice on environments nobody asked for
        import gymnasium_robotics
    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.registry


def _make(environment_id: str, options: Mapping[str, Any], render_mode: str | None) -> Environment:
    registered = registered_environments()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old versions are chosen on purpose
            drawing: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}  # not all know it
            return gymnasium.make(environment_id, disable_env_checker=True, **drawing, **options)
    except gymnasium.error.UnregisteredEnv:
        near = ", ".join(difflib.get_close_matches(environment_id, registered, n=3, cutoff=0.0))
        raise UserError(f"unknown environment {environment_id!r}: the nearest are {near}") from None
    except (Exception, SystemExit) as error:  # it is the user's code that runs here, or what it imports
        raise UserError(f"environment {environment_id!r} cannot be made: {_told(error)}") from None


def _told(error: BaseException) -> str:
    """What a library says of an error, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _flattens(space: gymnasium.Space[Any]) -> bool:
    if isinstance(space, gymnasium.spaces.Dict):
        return all(_flattens(part) for part in space.spaces.values())
    return isinstance(space, Box)
