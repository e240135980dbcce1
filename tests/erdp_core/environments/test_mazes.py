"""Shortest paths in the mazes, against an independent search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erdp_core.environments.mazes import MAZES, Maze


def distances(maze: Maze) -> np.ndarray:
    """[C, C] steps between free cells, by repeated relaxation of a matrix (Floyd and Warshall)."""
    cells = np.array(maze.free)
    apart: np.ndarray = np.abs(cells[:, None] - cells[None]).sum(-1).astype(float)
    apart[apart > 1] = np.inf
    for middle in range(len(cells)):
        apart = np.minimum(apart, apart[:, middle, None] + apart[None, middle])
    return apart


@pytest.mark.parametrize("size", MAZES)
def test_every_path_is_a_shortest_one(size: str) -> None:
    maze = MAZES[size]
    apart = distances(maze)
    for i, start in enumerate(maze.free):
        for j, end in enumerate(maze.free):
            path = maze.shortest_path(start, end)
            assert (path[0], path[-1]) == (start, end)
            assert len(path) - 1 == apart[i, j]
            assert set(path) <= set(maze.free)
            steps = np.abs(np.diff(np.array(path), axis=0)).sum(1)
            assert (steps == 1).all()


@given(st.lists(st.text("#.", min_size=4, max_size=4), min_size=2, max_size=5))
def test_no_path_is_said_so(rows: list[str]) -> None:
    maze = Maze(tuple(rows))
    if not maze.free:
        return
    apart = distances(maze)
    for j, end in enumerate(maze.free):
        if np.isinf(apart[0, j]):
            with pytest.raises(ValueError, match="no path from cell"):
                maze.shortest_path(maze.free[0], end)
        else:
            assert len(maze.shortest_path(maze.free[0], end)) == apart[0, j] + 1


@pytest.mark.parametrize("size", MAZES)
def test_maps_are_closed_and_goals_are_far(size: str) -> None:
    maze = MAZES[size]
    assert {len(row) for row in maze.rows} == {len(maze.rows[0])}
    border = maze.rows[0] + maze.rows[-1] + "".join(row[0] + row[-1] for row in maze.rows)
    assert set(border) == {"#"}
    assert len(maze.walls) + len(maze.free) == len(maze.rows) * len(maze.rows[0])
    farthest = distances(maze).max()
    assert len(maze.shortest_path(maze.start, maze.goal)) - 1 >= 0.7 * farthest
