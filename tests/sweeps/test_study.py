"""Studies: the same proposals whatever interrupts them, trials of dead drivers taken up, each once."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from erdp_core.errors import UserError
from sweeps.search_space import parse_space
from sweeps.study import FIRST_TRIALS, Proposal, Study, open_storage

SPACE = parse_space(["agent.alpha=0.001:1:log"], "erdp")
ROOT = Path(__file__).parents[2]
MakeStudy = Callable[..., Study]


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """Drivers of one study."""

    def make(name: str = "study", space: object = SPACE) -> Study:
        return Study(name, open_storage(str(tmp_path / f"{name}.journal")), space, tmp_path / f"{name}.drivers")  # type: ignore[arg-type]

    return make


def alpha(proposal: Proposal) -> float:
    return float(proposal.settings[0].partition("=")[2])


def worth(proposal: Proposal) -> float:
    """Best at 0.1."""
    return 100 - 20 * abs(math.log10(alpha(proposal)) + 1)


def searched(study: Study, trials: int, batch: int = 2) -> list[tuple[str, ...]]:
    """Every proposal of a search to its end."""
    found = []
    with study:
        while proposals := study.batch(batch, trials):
            for proposal in proposals:
                found.append(proposal.settings)
                study.report(proposal, 10, worth(proposal))
                study.finish(proposal, worth(proposal))
    return found


def test_a_search_comes_nearer_and_knows_its_best(make_study: MakeStudy) -> None:
    study = make_study()
    study.propose_first({"agent.alpha": 0.01})
    found = searched(study, 20)
    assert found[0] == ("agent.alpha=0.01",)
    assert len(found) == 20
    best = study.best
    assert best is not None
    assert best.value == max(trial["value"] for trial in study.record())
    distances = [abs(math.log10(float(setting.partition("=")[2])) + 1) for [setting] in found]
    assert sum(distances[-5:]) < sum(distances[1:6])
    assert study.batch(2, 20) == []  # the same number again adds nothing


def test_an_interrupted_search_proposes_the_same(make_study: MakeStudy) -> None:
    whole = searched(make_study("whole"), 8)
    interrupted = searched(make_study("parts"), 4) + searched(make_study("parts"), 8)
    assert interrupted == whole


def test_the_first_is_proposed_once(make_study: MakeStudy) -> None:
    for _ in range(2):
        study = make_study()
        study.propose_first({"agent.alpha": 0.01})
        with study:
            [proposal] = study.batch(1, 2)
            study.finish(proposal, 1.0)
    assert [trial["settings"] for trial in study.record()].count(["agent.alpha=0.01"]) == 1


def test_living_drivers_keep_their_trials_and_dead_ones_lose_them(make_study: MakeStudy, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.sweeps.test_study import SPACE;"
        "from sweeps.study import Study, open_storage; folder = Path(sys.argv[1]);"
        "study = Study('study', open_storage(str(folder / 'study.journal')), SPACE, folder / 'study.drivers');"
        "study.__enter__(); print([one.settings for one in study.batch(2, 6)], flush=True); time.sleep(600)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert other.stdout is not None
        theirs = other.stdout.readline()
        study = make_study()
        with study:
            mine = study.batch(2, 6)
            assert study.at_work == 2
            assert not any(str(one.settings) in theirs for one in mine)
            other.send_signal(signal.SIGKILL)
            other.wait(10)
            taken = study.batch(4, 6)
            assert study.at_work == 0
    finally:
        other.kill()
    # Two of the dead driver's, to be trained with the same settings, then two new ones.
    assert [one.trial.number for one in taken] == [0, 1, 4, 5]
    assert str([one.settings for one in taken[:2]]) == theirs.strip()


def test_what_falls_behind_is_hopeless(make_study: MakeStudy) -> None:
    study = make_study()
    with study:
        for value in range(FIRST_TRIALS):
            [proposal] = study.batch(1, 10)
            study.report(proposal, 10, float(value))
            assert not study.is_hopeless(proposal)
            study.finish(proposal, float(value))
        bad, good = study.batch(2, 10)
        study.report(bad, 10, 0.5)
        study.report(good, 10, 2.5)
        study.report(good, 10, 0.0)  # what is known stays
        assert study.is_hopeless(bad)
        assert not study.is_hopeless(good)
        study.prune(bad)
        study.fail(good, "loss not finite at step 3")
    record = study.record()
    assert [trial["state"] for trial in record[-2:]] == ["pruned", "failed"]
    assert record[-2]["value"] is None
    assert record[-2]["reports"] == {"10": 0.5}
    assert record[-1]["failure"] == "loss not finite at step 3"
    best = study.best
    assert best is not None
    assert best.value == FIRST_TRIALS - 1


def test_importances_where_there_are_several_settings(make_study: MakeStudy) -> None:
    study = make_study(space=parse_space(["agent.alpha=0.001:1:log", "agent.beta=1:8"], "erdp"))
    assert study.importances() == {}
    searched(study, 12, batch=4)
    found = study.importances()
    assert sum(found.values()) == pytest.approx(1)
    assert found["agent.alpha"] > found["agent.beta"]
    assert make_study("other").importances() == {}


def test_storages_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="SQLite is not made for several drivers"):
        open_storage(f"sqlite:///{tmp_path}/study.db")
    with pytest.raises(UserError, match=r"--storage \*\*\* cannot be used"):
        open_storage("postgresql://me:secret@[x/y")
    with pytest.raises(UserError, match=r"--storage postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/db cannot be used"):
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:1/db")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be used"):
        open_storage(str(tmp_path / "file" / "study.journal"))


@pytest.mark.parametrize("content", ["some notes", '{"a": 1}', "[1, 2]", '{"op_code": "x"}'])
def test_a_file_that_is_no_journal_is_left_as_it_is(content: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(f"{content}\n")
    with pytest.raises(UserError, match=r"notes.txt is no journal of a search"):
        open_storage(str(path))
    assert path.read_text() == f"{content}\n"


def test_a_journal_whose_last_line_was_torn_goes_on(make_study: MakeStudy, tmp_path: Path) -> None:
    searched(make_study(), 3)
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    found = searched(make_study(), 5)
    assert len(found) == 2
    assert journal.read_bytes().startswith(whole)
    assert len(make_study().trials) == 5


def test_drivers_share_a_ledger(make_study: MakeStudy, tmp_path: Path) -> None:
    """Else each would take the other for dead, as their locks are in different folders."""
    searched(make_study(), 2)
    with pytest.raises(UserError, match=r"has the search study of another ledger"):
        Study("study", open_storage(str(tmp_path / "study.journal")), SPACE, tmp_path / "elsewhere")


def test_hours_add_up(make_study: MakeStudy) -> None:
    study = make_study()
    with study:
        [proposal] = study.batch(1, 1)
        study.add_hours(proposal, 0.5)
        study.add_hours(proposal, 0.25)
        study.finish(proposal, 1.0)
    assert study.record()[0]["hours"] == 0.75
