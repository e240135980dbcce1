"""Vectorised rollouts: all episodes of all runs of a pack go forward together, one batched policy call a step."""

import collections
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from erdp_core.algorithms import Algorithm, stream
from erdp_core.errors import UserError
from erdp_core.threads import rest

Environment = gymnasium.Env[npt.NDArray[np.floating[Any]], npt.NDArray[np.float32]]


def episode_seed(seed: int, step: int, purpose: str, episode: int = 0) -> int:
    """The seed of one episode of one evaluation: a run's own, whatever its companions."""
    sequence = np.random.SeedSequence([seed, *purpose.encode(), 2**32, step, episode])
    return int(sequence.generate_state(1, np.uint32)[0] >> np.uint32(1))


@contextlib.contextmanager
def stepping(threads: int) -> Iterator[Callable[[Callable[[Any], None], Sequence[Any]], None]]:
    """What calls a function with each of some things, by threads that each take the next one; an error ends it."""

    def one_after_another(call: Callable[[Any], None], things: Sequence[Any]) -> None:
        for thing in things:
            call(thing)

    if threads == 1:
        yield one_after_another
        return
    with ThreadPoolExecutor(threads) as pool:

        def at_once(call: Callable[[Any], None], things: Sequence[Any]) -> None:
            waiting = collections.deque(things)

            def work() -> None:
                while waiting:
                    try:
                        thing = waiting.popleft()
                    except IndexError:  # another thread took the last one
                        return
                    call(thing)

            for done in [pool.submit(work) for _ in range(min(threads, len(things)))]:
                done.result()

        yield at_once


def evaluate(
    algorithm: Algorithm,
    environments: Sequence[Sequence[Environment]],
    seeds: Sequence[int],
    step: int,
    candidates: int,
    active: Sequence[bool],
) -> npt.NDArray[np.float64]:
    """Undiscounted returns [R, E] of one episode in each environment; NaN for runs that are not active.

    An evaluation is a function of a run's weights, seed and step: its episodes start from seeds of their own, and its
    acting noise is drawn full size from a stream of its own, even where episodes have ended. Environments are stepped
    by as many threads as torch has: MuJoCo works outside of Python's lock.

    Args:
        environments: E for each of the R runs, all of one kind.
        seeds: the runs' seeds, [R].
        step: updates that the policies have behind them.
        candidates: actions to choose from at each decision.
        active: runs to evaluate, [R].

    Raises UserError for returns that are not finite, and what environments raise.
    """
    runs, episodes = len(environments), len(environments[0])
    size = environments[0][0].observation_space.shape
    assert size is not None
    observations = np.zeros((runs, episodes, *size), dtype=np.float32)
    returns = np.where(np.array(active)[:, None], 0.0, np.nan) * np.ones((runs, episodes))
    going = np.tile(np.array(active)[:, None], (1, episodes))
    for run, episode in np.argwhere(going):
        observations[run, episode], _ = environments[run][episode].reset(
            seed=episode_seed(seeds[run], step, "episode", int(episode)),
            options={"evaluation_seed": episode_seed(seeds[run], step, "goal")},
        )
    generators = [stream(algorithm.device, seed, "acting", step) for seed in seeds]

    def act(actions: npt.NDArray[np.float32], place: tuple[int, int]) -> None:
        run, column = place
        episode = columns[column]
        observation, reward, terminated, truncated, _ = environments[run][episode].step(actions[run, column])
        observations[run, episode] = observation
        returns[run, episode] += float(reward)
        going[run, episode] = not (terminated or truncated)

    columns = np.arange(episodes)
    with stepping(torch.get_num_threads()) as for_each:
        while going.any():
            drawn = [algorithm.draw_acting_noise(generator, episodes, candidates) for generator in generators]
            columns = np.flatnonzero(going.any(axis=0))
            some = slice(None) if len(columns) == episodes else columns
            noise = {name: torch.stack([draws[name][some] for draws in drawn]) for name in drawn[0]}
            inputs = torch.from_numpy(observations[:, columns]).to(algorithm.device)
            actions = algorithm.act(inputs, noise).cpu().numpy()
            rest()
            for_each(functools.partial(act, actions), [tuple(place) for place in np.argwhere(going[:, columns])])
    if not np.isfinite(returns[np.array(active)]).all():
        name = type(environments[0][0].unwrapped).__name__
        raise UserError(f"environment {name} gave rewards that are NaN or infinite, or that sum up to such")
    return returns
