"""From runs to packs: which train together, and how many at once."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.ledger import Ledger
from orchestration.packing import Pack, make_packs
from orchestration.plan import Run
from orchestration.step_cost import Measured, StepCosts
from tests.orchestration.made_runs import made_run
from tests.orchestration.test_plan import CHANGES
from tests.small import small_config


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "runs", create=True)


def estimated(ledger: Ledger) -> StepCosts:
    """Costs of which none was measured."""
    return StepCosts(ledger, "cpu", "a processor", 1)


def checkpoints(ledger: Ledger, run: Run, *steps: int) -> None:
    folder = ledger.run(run.run_id)
    folder.create(run.record())
    for step in steps:
        folder.checkpoints.write(step, b"state")


def shapes(packs: Sequence[Pack]) -> list[list[int]]:
    """Seeds of each pack, in order."""
    return sorted(sorted(run.seed for run in pack.runs) for pack in packs)


def test_packs_share_structure_and_data(ledger: Ledger) -> None:
    runs = [
        made_run(seed, config)
        for seed in (0, 1)
        for config in (
            small_config(),
            small_config("agent.alpha=0.3", "agent.actor_lr=0.01"),
            small_config("agent.T=4"),
            small_config("trainer.steps=60"),
            small_config(method="bc-diffusion"),
        )
    ]
    runs += [CHANGES[change](made_run()) for change in ("task", "source", "data")]
    packs = make_packs(runs, ledger, 1, estimated(ledger))
    assert sorted(run.run_id for pack in packs for run in pack.runs) == sorted(run.run_id for run in runs)
    assert all(len({run.pack_key for run in pack.runs}) == 1 for pack in packs)
    # Both seeds and both alphas together; the others by twos and alone.
    assert sorted(len(pack.runs) for pack in packs) == [1, 1, 1, 2, 2, 2, 4]


@pytest.mark.parametrize(
    ("slots", "sizes"), [(1, [5]), (2, [2, 3]), (3, [1, 2, 2]), (5, [1, 1, 1, 1, 1]), (16, [1, 1, 1, 1, 1])]
)
def test_packs_are_split_to_fill_the_slots(ledger: Ledger, slots: int, sizes: list[int]) -> None:
    packs = make_packs(
        [made_run(seed, small_config("agent.M=64", "agent.width=256", "agent.batch_size=256")) for seed in range(5)],
        ledger,
        slots,
        estimated(ledger),
    )
    assert sorted(len(pack.runs) for pack in packs) == sizes


def test_the_most_work_comes_first(ledger: Ledger) -> None:
    runs = [made_run(0), made_run(1, small_config("trainer.steps=400")), made_run(2, small_config("agent.M=64"))]
    costs = [pack.hours for pack in make_packs(runs, ledger, 1, estimated(ledger))]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_small_networks_are_not_split(ledger: Ledger) -> None:
    """A step's fixed cost is theirs to share."""
    packs = make_packs([made_run(seed) for seed in range(3)], ledger, 3, estimated(ledger))
    assert shapes(packs) == [[0, 1, 2]]


@given(
    counts=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    slots=st.integers(1, 8),
)
def test_every_run_is_in_one_pack(tmp_path_factory: pytest.TempPathFactory, counts: list[int], slots: int) -> None:
    ledger = Ledger(tmp_path_factory.getbasetemp() / "empty")
    runs = [
        made_run(seed, small_config(f"agent.T={3 + group}"))
        for group, count in enumerate(counts)
        for seed in range(count)
    ]
    packs = make_packs(runs, ledger, slots, estimated(ledger))
    assert sorted(run.run_id for pack in packs for run in pack.runs) == sorted(run.run_id for run in runs)


def test_no_runs_no_packs(ledger: Ledger) -> None:
    assert make_packs([], ledger, 2, estimated(ledger)) == []


def test_runs_at_different_steps_do_not_train_together(ledger: Ledger) -> None:
    for seed, steps in enumerate([(), (), (20, 40), (20, 40), (60, 80)]):
        checkpoints(ledger, made_run(seed), *steps)
    packs = make_packs([made_run(seed) for seed in range(5)], ledger, 1, estimated(ledger))
    assert shapes(packs) == [[0, 1], [2, 3], [4]]


def test_a_run_ahead_rolls_back_where_it_still_holds_its_companions_step(ledger: Ledger) -> None:
    """A kill between two runs' commits leaves one of them an interval ahead."""
    for seed, steps in enumerate([(20, 40), (40, 60), (40, 60), (20,)]):
        checkpoints(ledger, made_run(seed), *steps)
    packs = make_packs([made_run(seed) for seed in range(4)], ledger, 1, estimated(ledger))
    # 1 and 2 go back to 40 with 0; not all three hold 20.
    assert shapes(packs) == [[0, 1, 2], [3]]


def test_a_run_ahead_never_rolls_back_to_nothing(ledger: Ledger) -> None:
    checkpoints(ledger, made_run(0))
    checkpoints(ledger, made_run(1), 20)
    assert shapes(make_packs([made_run(0), made_run(1)], ledger, 1, estimated(ledger))) == [[0], [1]]


@pytest.mark.parametrize(
    ("measured", "slots", "sizes"),
    [
        ({1: 10.0, 2: 11.0, 4: 13.0, 5: 14.0}, 1, [5]),  # five cost little more than one
        ({1: 10.0, 2: 19.9, 4: 60.0, 5: 90.0}, 1, [1, 2, 2]),  # three and more crowd each other out
        ({1: 10.0, 2: 30.0, 4: 60.0, 5: 90.0}, 1, [1, 1, 1, 1, 1]),
        ({1: 10.0, 2: 11.0, 4: None}, 1, [2, 3]),  # four do not fit, three may
        ({1: 10.0, 2: 11.0, 4: 13.0, 5: 14.0}, 5, [1, 1, 1, 1, 1]),  # no device idle: 10 instead of 14
    ],
)
def test_packs_are_as_large_as_was_measured_to_be_best(
    ledger: Ledger, measured: Measured, slots: int, sizes: list[int]
) -> None:
    runs = [made_run(seed) for seed in range(5)]
    costs = estimated(ledger)
    costs.learn(runs[0], measured)
    packs = make_packs(runs, ledger, slots, costs)
    assert sorted(len(pack.runs) for pack in packs) == sizes


def test_each_shape_has_a_size_of_its_own(ledger: Ledger) -> None:
    small, large = ([made_run(seed, small_config(f"agent.M={M}")) for seed in range(4)] for M in (3, 8))
    costs = estimated(ledger)
    costs.learn(small[0], {1: 1.0, 2: 1.1, 4: 1.3})
    costs.learn(large[0], {1: 10.0, 2: 12.0, 4: None})
    packs = make_packs([*small, *large], ledger, 1, costs)
    assert sorted((pack.runs[0].config.to_dict()["agent"]["M"], len(pack.runs)) for pack in packs) == [
        (3, 4),
        (8, 2),
        (8, 2),
    ]
