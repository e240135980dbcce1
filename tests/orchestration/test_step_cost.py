"""What steps cost: by arithmetic, by measurement, and between the measurements."""

import dataclasses
from pathlib import Path

import pytest
import torch

from orchestration import probe
from orchestration.ledger import Ledger
from orchestration.step_cost import STEP_OVERHEAD, StepCosts, probed_sizes, step_gflop, step_work
from tests.orchestration.made_runs import made_run
from tests.small import small_config


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "runs", create=True)


def costs(ledger: Ledger, **changes: str | int) -> StepCosts:
    return StepCosts(ledger, **{"device": "cpu", "name": "a processor", "cores": 2, **changes})  # type: ignore[arg-type]


def test_arithmetic_is_that_of_the_papers_steps() -> None:
    """About 28 GFLOP for locomotion and 74 for AntMaze with its max-Q backup, both with 64 critics."""
    gym, ant = (
        small_config("agent.M=64", "agent.width=256", "agent.batch_size=256", "agent.layers=3", *more).agent
        for more in ((), ("agent.max_q_backup=true",))
    )
    assert step_gflop(gym, 11, 3) == pytest.approx(28, rel=0.05)
    assert step_gflop(ant, 29, 8) == pytest.approx(74, rel=0.05)


def test_arithmetic_of_the_other_methods() -> None:
    """Beside one forward pass of a critic, which is about that of any other network of its size."""
    shape = ("agent.width=256", "agent.batch_size=256", "agent.layers=2", "agent.T=5")

    def passes(method: str, *settings: str) -> float:
        return step_gflop(small_config(*shape, *settings, method=method).agent, 11, 3) / (
            2 * 256 * (14 * 256 + 256**2 + 256) / 1e9
        )

    assert passes("bc") == pytest.approx(3, rel=0.1)
    assert passes("bc-diffusion") == pytest.approx(3, rel=0.1)
    assert passes("td3-bc") == pytest.approx(1 + 2 + 6 + 3 + 4, rel=0.1)
    assert passes("iql") == pytest.approx(2 + 5 + 3 + 6, rel=0.1)
    assert passes("diffusion-ql") == pytest.approx(3 + 5 + 2 + 6 + 4 + 15, rel=0.1)
    assert passes("diffusion-ql", "agent.eta=0") == pytest.approx(3 + 5 + 2 + 6, rel=0.1)


def test_without_a_measurement_runs_share_a_steps_fixed_cost(ledger: Ledger) -> None:
    runs = [made_run(seed) for seed in range(3)]
    one, three = (costs(ledger).milliseconds(runs[:count]) for count in (1, 3))
    assert three - one == pytest.approx(2 * one * (1 - STEP_OVERHEAD / step_work(runs[0])))
    assert not costs(ledger).is_measured(runs)


def test_between_measurements_costs_lie_on_a_line_and_beyond_them_go_by_arithmetic(ledger: Ledger) -> None:
    runs = [made_run(seed) for seed in range(8)]
    known = costs(ledger)
    by_arithmetic = {count: known.milliseconds(runs[:count]) for count in (2, 4, 8)}
    known.learn(runs[0], {2: 10.0, 4: 16.0})
    known.learn(runs[0], {6: None})
    # Another driver reads the same.
    for reader in (known, costs(ledger)):
        assert reader.is_measured(runs)
        assert [reader.milliseconds(runs[:count]) for count in (2, 3, 4)] == [10.0, 13.0, 16.0]
        assert reader.milliseconds(runs[:1]) < 10.0
        assert reader.milliseconds(runs[:5]) > 16.0
        assert reader.milliseconds(runs[:6]) == reader.milliseconds(runs) == float("inf")
    known.learn(runs[0], {6: 20.0})
    assert known.milliseconds(runs) == pytest.approx(20.0 * by_arithmetic[8] / costs_of_six(by_arithmetic))
    assert known.hours(runs[:2]) == pytest.approx(10.0 * runs[0].config.trainer.steps / 3.6e6)


def costs_of_six(by_arithmetic: dict[int, float]) -> float:
    """Halfway between four and eight."""
    return (by_arithmetic[4] + by_arithmetic[8]) / 2


def test_a_measurement_counts_for_its_shape_device_and_cores_alone(ledger: Ledger) -> None:
    run = made_run()
    costs(ledger).learn(run, {1: 5.0})
    same = [made_run(1), made_run(0, small_config("agent.alpha=0.3")), dataclasses.replace(run, source="file")]
    other = [
        made_run(0, small_config("agent.M=5")),
        made_run(0, small_config("agent.T=4")),
        made_run(0, small_config("trainer.precision=bfloat16")),
        made_run(0, small_config(method="bc-diffusion")),
        dataclasses.replace(run, dataset={**run.dataset, "observation_size": 5}),
    ]
    assert [costs(ledger).is_measured([one]) for one in same] == [True] * len(same)
    assert [costs(ledger).is_measured([one]) for one in other] == [False] * len(other)
    for changes in ({"name": "another"}, {"cores": 1}, {"device": "cuda"}):
        assert not costs(ledger, **changes).is_measured([run])


@pytest.mark.parametrize("content", ["", "[]", '{"key": {"one": 1.0}}', '{"key": {"1": "fast"}}', '{"key": 3.5}'])
def test_measurements_that_cannot_be_read_are_made_anew(ledger: Ledger, content: str) -> None:
    (ledger.root / "probes.json").write_text(content)
    known = costs(ledger)
    assert not known.is_measured([made_run()])
    known.learn(made_run(), {1: 5.0})
    assert costs(ledger).milliseconds([made_run()]) == 5.0


def test_shapes_are_the_largest_packs_of_each(ledger: Ledger) -> None:
    small = [made_run(seed) for seed in range(3)]
    elsewhere = [dataclasses.replace(made_run(seed), source="file") for seed in range(4)]
    large = [made_run(0, small_config("agent.M=5"))]
    found = costs(ledger).shapes([*small, *elsewhere, *large])
    assert sorted(found, key=len) == [large, elsewhere]


def test_what_is_known_and_what_is_to_be_measured(ledger: Ledger) -> None:
    assert [probed_sizes(runs) for runs in (1, 2, 3, 5, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 5], [1, 2, 4, 8]]
    runs = [made_run(seed) for seed in range(5)]
    known = costs(ledger)
    assert not known.knows(runs)
    known.learn(runs[0], {1: 5.0, 2: 6.0})
    assert known.knows(runs[:2])
    assert not known.knows(runs)
    known.learn(runs[0], {4: None})
    assert known.knows(runs)  # five do not fit either


def test_steps_are_measured_until_they_no_longer_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [made_run(seed) for seed in range(5)]
    threads = torch.get_num_threads()
    try:
        found = probe.measure(runs, "cpu", 1)
        assert list(found) == [1, 2, 4, 5]
        assert all(milliseconds and 0 < milliseconds < 1000 for milliseconds in found.values())

        def crowded(runs: list[object], device: str) -> float:
            # What torch says where a machine has no more: more than there are addresses.
            return 1.0 if len(runs) < 4 else float(torch.empty(2**60)[0])

        monkeypatch.setattr(probe, "_milliseconds", crowded)
        assert probe.measure(runs, "cpu", 1) == {1: 1.0, 2: 1.0, 4: None}

        def broken(runs: list[object], device: str) -> float:
            return float((torch.zeros(2, 3) @ torch.zeros(2, 3))[0, 0])

        monkeypatch.setattr(probe, "_milliseconds", broken)
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            probe.measure(runs, "cpu", 1)
    finally:
        torch.set_num_threads(threads)
