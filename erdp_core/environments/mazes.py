"""The three mazes, as maps: AntMaze and PointMaze share them."""

from collections import deque
from dataclasses import dataclass

Cell = tuple[int, int]
"""(row, column), counted from the upper left corner, walls included."""


@dataclass(frozen=True)
class Maze:
    """A map: `#` wall, `.` free, `R` where evaluation starts (free), `G` where its goal is (free)."""

    rows: tuple[str, ...]

    def _cells(self, symbols: str) -> tuple[Cell, ...]:
        return tuple(
            (row, column) for row, line in enumerate(self.rows) for column, mark in enumerate(line) if mark in symbols
        )

    @property
    def walls(self) -> tuple[Cell, ...]:
        """Every wall cell, row by row."""
        return self._cells("#")

    @property
    def free(self) -> tuple[Cell, ...]:
        """Every free cell, row by row."""
        return self._cells(".RG")

    @property
    def start(self) -> Cell:
        """The cell where evaluation starts."""
        return self._cells("R")[0]

    @property
    def goal(self) -> Cell:
        """The cell of the evaluation's goal."""
        return self._cells("G")[0]

    def shortest_path(self, start: Cell, end: Cell) -> list[Cell]:
        """Cells from `start` to `end`, both included, by steps to the side, up and down (breadth first).

        Raises ValueError where no path leads from one to the other.
        """
        free = set(self.free)
        parents: dict[Cell, Cell] = {end: end}
        queue = deque([end])
        while queue and start not in parents:
            cell = queue.popleft()
            row, column = cell
            for neighbour in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if neighbour in free and neighbour not in parents:
                    parents[neighbour] = cell
                    queue.append(neighbour)
        if start not in parents or end not in free:
            raise ValueError(f"no path from cell {start} to cell {end}")
        path = [start]
        while path[-1] != end:
            path.append(parents[path[-1]])
        return path


MAZES = {
    "umaze": Maze(
        (
            "#####",
            "#R..#",
            "###.#",
            "#G..#",
            "#####",
        )
    ),
    "medium": Maze(
        (
            "########",
            "#R.##..#",
            "#..#...#",
            "##...###",
            "#..#...#",
            "#.#..#.#",
            "#...#.G#",
            "########",
        )
    ),
    "large": Maze(
        (
            "############",
            "#R...#.....#",
            "#.##.#.#.#.#",
            "#......#...#",
            "#.####.###.#",
            "#..#.#.....#",
            "##.#.#.#.###",
            "#..#...#.G.#",
            "############",
        )
    ),
}
