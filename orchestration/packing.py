"""From runs to packs that train together."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.ledger import Ledger
from orchestration.plan import Run
from orchestration.step_cost import StepCosts


@dataclass(frozen=True)
class Pack:
    """Runs that one process trains together."""

    runs: tuple[Run, ...]
    hours: float
    """Of the whole training, evaluation not counted: what it is expected to take."""

    @property
    def name(self) -> str:
        """For people: task, method or column, seeds."""
        seeds_of: dict[str, list[str]] = {}
        for run in self.runs:
            seeds_of.setdefault(run.column or run.method, []).append(str(run.seed))
        parts = [f"{name} seed{'s' if len(seeds) > 1 else ''} {','.join(seeds)}" for name, seeds in seeds_of.items()]
        return f"{self.runs[0].task.name} {'; '.join(parts)}"


def make_packs(runs: Sequence[Run], ledger: Ledger, slots: int, costs: StepCosts) -> list[Pack]:
    """Packs of runs that share everything structural and a step to go on from, the most work first.

    As large as makes the most steps a second of all their runs, within memory where that was measured. They are split
    further where that evens the slots' work out by more than it costs. A run ahead of its companions rolls back to a
    step of theirs only where it still has that step's checkpoint.
    """
    if not runs:
        return []
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.pack_key, []).append(run)
    together = [cluster for group in groups.values() for cluster in at_common_step(group, ledger)]
    # Of packs of 1, 2, ... of each cluster's runs.
    hours = [[costs.hours(cluster[: size + 1]) for size in range(len(cluster))] for cluster in together]
    fastest = [_fastest_size(of_cluster) for of_cluster in hours]
    candidates = [
        _split(together, hours, [min(limit, size) for size in fastest]) for limit in range(max(fastest), 0, -1)
    ]
    longest = [_longest_slot(packs, slots) for packs in candidates]
    # The largest packs whose longest slot is within a twentieth of the best.
    return next(packs for packs, most in zip(candidates, longest, strict=True) if most <= 1.05 * min(longest))


def _fastest_size(hours: Sequence[float]) -> int:
    """How many runs at once take the least time each, by the hours of packs of 1, 2, ...; the most within 5%."""
    per_run = [of_pack / (index + 1) for index, of_pack in enumerate(hours)]
    return max(index + 1 for index, each in enumerate(per_run) if each <= 1.05 * min(per_run))


def at_common_step(group: Sequence[Run], ledger: Ledger) -> list[list[Run]]:
    """Runs that could train together, parted by the step that they go on from."""
    steps = {run.run_id: set(ledger.run(run.run_id).checkpoints.steps()) for run in group}
    by_newest: dict[int, list[Run]] = {}
    for run in group:
        by_newest.setdefault(max(steps[run.run_id], default=0), []).append(run)
    clusters: list[tuple[int, list[Run]]] = []
    for newest in sorted(by_newest, reverse=True):
        members = by_newest[newest]
        if newest > 0 and clusters and all(newest in steps[run.run_id] for run in clusters[-1][1]):
            members = clusters.pop()[1] + members
        clusters.append((newest, members))
    return [members for _, members in clusters]


def _split(clusters: Sequence[Sequence[Run]], hours: Sequence[Sequence[float]], limits: Sequence[int]) -> list[Pack]:
    packs = []
    for cluster, of_size, limit in zip(clusters, hours, limits, strict=True):
        count = -(-len(cluster) // limit)
        size, extra = divmod(len(cluster), count)
        start = 0
        for index in range(count):
            end = start + size + (index < extra)
            packs.append(Pack(tuple(cluster[start:end]), of_size[end - start - 1]))
            start = end
    return sorted(packs, key=lambda pack: -pack.hours)


def _longest_slot(packs: Sequence[Pack], slots: int) -> float:
    """Hours of the busiest slot when each pack goes to the first that is free."""
    loads = [0.0] * max(1, slots)
    for pack in packs:
        loads[loads.index(min(loads))] += pack.hours
    return max(loads)
