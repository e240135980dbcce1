"""The steps of a pack between two evaluations: random numbers drawn in blocks, nothing that waits for the device.

One step reads the block's numbers at a counter on the device and leaves its losses in sums there. So a GPU can replay
it as a graph, launched as a whole; a CPU runs the same function as it stands.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import Algorithm, Batch

BLOCK = 50
"""Steps whose random numbers are drawn at once, for each run from its own stream."""
WARM_UP = 3
"""Steps that a GPU runs one operation at a time, before it records one."""


class StepLoop:
    """Trains a pack on data that lie on its device."""

    def __init__(
        self,
        algorithm: Algorithm,
        data: Batch,
        generators: Sequence[torch.Generator],
        batch_size: int,
        graph: bool = True,
    ) -> None:
        """
        data: all transitions, without a run axis: observations [N, O], actions [N, A], ..., rewards as for training.
        generators: each run's stream, on the algorithm's device.
        graph: whether a GPU replays steps.
        """
        self.algorithm = algorithm
        self.data = data
        self.generators = list(generators)
        self.batch_size = batch_size
        device = algorithm.device
        self._block: dict[str, Tensor] = {}
        """Rows [BLOCK, R, B] and noise [BLOCK, R, ...] of the next steps."""
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        """Of the next step in the block."""
        self._sums: dict[str, Tensor] = {}
        self._done = torch.zeros((), dtype=torch.int64, device=device)
        """Steps of this call of `run`."""
        self._first_bad = torch.zeros(len(self.generators), dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._as_graph = graph and device.type == "cuda"
        self._warm_up_left = WARM_UP

    def run(self, length: int) -> tuple[dict[str, list[float]], list[int | None]]:
        """Train so many steps, a block at a time. Waits for the device at its end only.

        Returns each log's means over the steps, by run, and the step (1, 2, ...) at which each run's losses stopped
        being finite, None where they did not.
        """
        for total in self._sums.values():
            total.zero_()
        self._done.zero_()
        self._first_bad.fill_(-1)
        for start in range(0, length, BLOCK):
            count = min(BLOCK, length - start)
            for name, drawn in self._draw(count).items():
                if name not in self._block:
                    self._block[name] = drawn.new_empty(BLOCK, *drawn.shape[1:])
                self._block[name][:count] = drawn
            self._position.zero_()
            for _ in range(count):
                self._step()
        means = {name: (total / length).tolist() for name, total in self._sums.items()}
        return means, [step if step >= 0 else None for step in self._first_bad.tolist()]

    def _draw(self, steps: int) -> dict[str, Tensor]:
        """Rows [steps, R, B] and noise [steps, R, ...] of the next steps, each run's from its own stream."""
        rows, draws = len(self.data.rewards), []
        for generator in self.generators:
            shape = (steps, self.batch_size)
            indices = torch.randint(rows, shape, generator=generator, device=self.algorithm.device)
            draws.append({"rows": indices, **self.algorithm.draw_noise(generator, steps)})
        return {name: torch.stack([draw[name] for draw in draws], dim=1) for name in draws[0]}

    def _step(self) -> None:
        """One step, as it stands or as a graph."""
        if self._graph is not None:
            self._graph.replay()
        elif not self._as_graph:
            self._update()
        elif self._warm_up_left > 0:
            # What a graph is recorded from must have run on a stream of its own before.
            self._warm_up_left -= 1
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._update()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            self._graph = torch.cuda.CUDAGraph()
            # Records, and computes nothing; a thread that evaluates meanwhile may take memory.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._update()
            self._graph.replay()

    def _update(self) -> None:
        numbers = {name: values.index_select(0, self._position).squeeze(0) for name, values in self._block.items()}
        rows = numbers.pop("rows")
        batch = Batch(*(column.index_select(0, rows.flatten()).unflatten(0, rows.shape) for column in self.data))
        info = self.algorithm.update(batch, numbers)
        self._position += 1
        self._done += 1
        finite = torch.stack([value for name, value in info.items() if name.endswith("loss")]).isfinite().all(dim=0)
        self._first_bad.copy_(torch.where(~finite & (self._first_bad < 0), self._done, self._first_bad))
        for name, value in info.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(value)
            self._sums[name] += value
