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
from orchestration.pack_work import PackWork
from orchestration.plan import Run


class PackTrainable(tune.Trainable):
    """Trains the pack that its config names by number; results are `PackProgress` as a dictionary, or a problem."""

    def setup(self, config: dict[str, Any], ledger: str = "", packs: list[list[Record]] | None = None) -> None:
        """Take the number of the pack, and what all trials share: the ledger's path and every pack's run records."""
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self._ledger = Ledger(ledger)
        self._packs = packs or []
        self._pack: int = config["pack"]
        self._work: PackWork | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another pack in the same process, which saves its start."""
        self._pack = new_config["pack"]
        self._work = None
        return True

    def step(self) -> dict[str, Any]:
        """One interval. What retrying cannot mend comes back as a `problem`, anything else is raised and retried."""
        try:
            if self._work is None:
                runs = [Run.from_record(record) for record in self._packs[self._pack]]
                device = "cuda" if torch.cuda.is_available() else "cpu"
                self._work = PackWork(self._ledger, runs, device)
            progress = self._work.advance()
        except UserError as error:
            return {"problem": str(error), "storage": isinstance(error, StorageError), "done": True}
        return dataclasses.asdict(progress)

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Where the state really is."""
        return {"ledger": str(self._ledger.root), "pack": self._pack}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to load: the next step reads the ledger."""

    def cleanup(self) -> None:
        """Nothing to close: each interval is complete on disk."""
        self._work = None
