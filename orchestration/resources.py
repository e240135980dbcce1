"""What a machine or cluster has, and what each pack gets of it."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """CPU cores and GPUs."""

    cpus: int
    gpus: int

    @property
    def slots(self) -> int:
        """Packs that train at the same time: one a GPU, or one a CPU core where there is no GPU."""
        return max(1, self.gpus or self.cpus)

    def cores_per_pack(self, packs: int) -> int:
        """CPU cores (and so threads) of each of some packs: what there is, shared evenly."""
        return max(1, self.cpus // (self.gpus or max(1, min(packs, self.slots))))

    def per_pack(self, packs: int) -> dict[str, float]:
        """CPUs and GPUs of each of some packs, as Ray wants them."""
        return {"cpu": float(self.cores_per_pack(packs))} | ({"gpu": 1.0} if self.gpus else {})


def local_resources() -> Resources:
    """What a cluster started on this machine would have; starts nothing."""
    import torch

    return Resources(len(os.sched_getaffinity(0)), torch.cuda.device_count())
