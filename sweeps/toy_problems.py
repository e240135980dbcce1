"""The papers' toy problems as data: Diffusion-QL's two bandits, and ERDP's two steps on a line.

Diffusion-QL's are those of its paper (arXiv 2208.06193, section 5 and appendix). ERDP's Figure 1 is described without
numbers (arXiv 2402.04080): those of `reward_on_the_line` and `two_steps` are ours.
"""

import numpy as np
import numpy.typing as npt
import torch

from erdp_core.algorithms import Batch

Array = npt.NDArray[np.floating]

BANDIT_ROWS = 10_000
BANDIT_SPREAD = 0.05
REWARD_SPREAD = 0.5
CENTRES = {
    "bandit-corners": ((-0.8, 0.8), (-0.8, -0.8), (0.8, 0.8), (0.8, -0.8)),
    "bandit-axes": ((0.0, 0.8), (0.8, 0.0), (0.0, -0.8), (-0.8, 0.0)),
}
"""Of the data's actions, as many around each."""
REWARDS = (3.0, 0.0, 1.5, 5.0)
"""Mean around each centre; of the corners: upper left, lower left, upper right, lower right."""

LINE_EPISODES = 5_000
PEAKS = ((4.0, 0.3, 0.25), (10.0, -0.7, 0.15))
"""Of the reward on the line: height, place, spread. The high one is where few data are; rewards are large enough for
policies that choose with softmax(Q) to tell one from the other."""
REWARD_NOISE = 0.5
COMMON, COMMON_PLACE, RARE_PLACE, ACTION_SPREAD = 0.85, 0.3, -0.6, 0.25
"""Share and mean of the data's common actions, mean of the others, and the spread of both."""
DISCOUNT = 0.99


def bandit(name: str) -> Batch:
    """Actions [N, 2] in one state, each the end of its episode, columns without a run axis."""
    random = np.random.default_rng(0)
    centre = np.arange(BANDIT_ROWS) % 4
    actions = np.array(CENTRES[name])[centre] + BANDIT_SPREAD * random.normal(size=(BANDIT_ROWS, 2))
    rewards = np.array(REWARDS)[centre] + REWARD_SPREAD * random.normal(size=BANDIT_ROWS)
    states = np.zeros((BANDIT_ROWS, 1))
    return _batch(states, actions.clip(-1, 1), states, rewards, np.ones(BANDIT_ROWS))


def reward_on_the_line(place: Array) -> Array:
    """Mean reward of arriving at places on the line: a low wide peak and a high narrow one."""
    peaks = [height * np.exp(-0.5 * ((place - where) / spread) ** 2) for height, where, spread in PEAKS]
    found: Array = np.sum(peaks, axis=0)
    return found


def two_steps() -> Batch:
    """Episodes of two steps from 0: a step goes as far as its action; a state is the place and the steps taken."""
    random = np.random.default_rng(0)
    shape = (LINE_EPISODES, 2)
    middle = np.where(random.random(shape) < COMMON, COMMON_PLACE, RARE_PLACE)
    actions = (middle + ACTION_SPREAD * random.normal(size=shape)).clip(-1, 1)
    places = np.concatenate([np.zeros((LINE_EPISODES, 1)), np.cumsum(actions, axis=1)], axis=1)
    rewards = reward_on_the_line(places[:, 1:]) + REWARD_NOISE * random.normal(size=shape)
    states, after = (
        np.stack([places[:, steps], np.broadcast_to(np.array(steps), shape)], axis=2) for steps in ([0, 1], [1, 2])
    )
    terminals = np.broadcast_to(np.array([0.0, 1.0]), shape)
    states, actions, after = (column.reshape(2 * LINE_EPISODES, -1) for column in (states, actions, after))
    return _batch(states, actions, after, rewards, terminals)


def true_first_values(actions: Array) -> Array:
    """The value of each first action from 0, if the second is the best one: its reward and the best that follows."""
    second = np.linspace(-1, 1, 2001)
    best = np.array([reward_on_the_line(place + second).max() for place in actions])
    return reward_on_the_line(actions) + DISCOUNT * best


def _batch(states: Array, actions: Array, after: Array, rewards: Array, terminals: Array) -> Batch:
    columns = (states, actions, after, rewards.reshape(-1), terminals.reshape(-1))
    return Batch(*(torch.from_numpy(np.ascontiguousarray(column, dtype=np.float32)) for column in columns))
