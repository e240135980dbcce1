"""A pack as a Ray Tune Trainable: one call of `step` is one interval, committed to the ledger.

Tune's checkpoint is no more than a pointer: after a fault the pack goes on from what the ledger holds.
"""

import dataclasses
import os
from typing import Any

import torch
from ray import tune

from erdp_core.errors import UserError
from orchestration.ledger import Ledger, Record, StorageError
from orchestration.pack_work import PackProgress, PackWork, free_memory, is_out_of_memory
from orchestration.packing import at_common_step
from orchestration.plan import Run


class PackTrainable(tune.Trainable):
    """Trains the pack that its config names by number; results are `PackProgress` as a dictionary, or a problem.

    A pack that does not fit in memory is trained in halves, one after the other.
    """

    def setup(
        self,
        config: dict[str, Any],
        ledger: str = "",
        packs: list[list[Record]] | None = None,
        until: int | None = None,
    ) -> None:
        """Take the number of the pack, and what all trials share.

        That is the ledger's path, every pack's run records, and the step at which to stop where it is not their last.
        """
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self._ledger = Ledger(ledger)
        self._packs = packs or []
        self._until = until
        self._take_up(config["pack"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another pack in the same process, which saves its start."""
        self._take_up(new_config["pack"])
        return True

    def _take_up(self, pack: int) -> None:
        self._pack = pack
        self._runs: list[Run] = []
        self._parts: list[list[Run]] = []
        """Runs that are still to be trained together; the first are at work."""
        self._work: PackWork | None = None
        self._scores: dict[str, float] = {}
        self._failures: dict[str, str] = {}

    def step(self) -> dict[str, Any]:
        """One interval. What retrying cannot mend comes back as a `problem`, anything else is raised and retried."""
        try:
            if not self._runs:
                self._runs = [Run.from_record(record) for record in self._packs[self._pack]]
                self._parts = at_common_step(self._runs, self._ledger)
            if self._work is None:
                device = "cuda" if torch.cuda.is_available() else "cpu"
                self._work = PackWork(self._ledger, self._parts[0], device, self._until)
            return dataclasses.asdict(self._of_all_parts(self._work.advance()))
        except UserError as error:
            return {"problem": str(error), "storage": isinstance(error, StorageError), "done": True}
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, where no traceback holds on to what filled the memory.
        return self._halve()

    def _of_all_parts(self, progress: PackProgress) -> PackProgress:
        """Where the whole pack stands, given where the part at work does; where that is done, on to the next."""
        self._scores |= progress.scores
        self._failures |= progress.failures
        waiting = [run for part in self._parts[1:] for run in part]
        reached = [max(self._ledger.run(run.run_id).checkpoints.steps(), default=0) for run in waiting]
        at_work = len(self._parts[0])
        finished = len(self._runs) - len(waiting) - at_work
        step = (finished * progress.steps + at_work * progress.step + sum(reached)) // len(self._runs)
        if progress.done:
            del self._parts[0]
            self._work = None
            free_memory()
        return dataclasses.replace(
            progress,
            step=step,
            scores={run_id: score for run_id, score in self._scores.items() if run_id not in self._failures},
            failures=self._failures,
            done=not self._parts,
        )

    def _halve(self) -> dict[str, Any]:
        """Part the runs at work in two, to go on with from what the ledger has of them."""
        self._work = None
        free_memory()
        runs = self._parts[0]
        if len(runs) == 1:
            problem = f"{runs[0].run_id} does not fit in the memory of its device, even alone"
            return {"problem": problem, "storage": False, "done": True}
        middle = (len(runs) + 1) // 2
        self._parts[:1] = [runs[:middle], runs[middle:]]
        return {"out_of_memory": len(runs), "parts": [len(part) for part in self._parts], "done": False}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Where the state really is."""
        return {"ledger": str(self._ledger.root), "pack": self._pack}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to load: the next step reads the ledger."""

    def cleanup(self) -> None:
        """Nothing to close: each interval is complete on disk."""
        self._work = None
