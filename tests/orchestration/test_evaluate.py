"""Fresh episodes of finished runs: figures, names, mistakes, and the video of an episode."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from erdp_core import video
from erdp_core.algorithms import make_algorithm
from erdp_core.config import RunConfig
from erdp_core.data.collect import collect_pointmaze
from erdp_core.environments.make import make_environment
from erdp_core.environments.point_maze import PointMaze
from erdp_core.errors import UserError
from erdp_core.evaluation import episode_seed, evaluate
from erdp_core.tasks import EnvironmentSpec, get_task
from erdp_core.trainer import unpack_state
from orchestration import evaluate as script
from orchestration.ledger import Ledger, read_json, write_file, write_json
from orchestration.pack_work import PackWork
from orchestration.plan import make_plan

ROOT = Path(__file__).parents[2]
SETTINGS = ("trainer.steps=600", "trainer.interval=300", "agent.width=48", "agent.batch_size=128")
FIRST = "pointmaze-umaze.bc-diffusion.seed0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of three finished runs: behaviour cloning with seeds 0 and 1, ERDP with seed 0."""
    root = tmp_path_factory.mktemp("ledger")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        collect_pointmaze(get_task("pointmaze-umaze"), rows=3000)
        ledger = Ledger.open(root, create=True)
        for method, seeds in (("bc-diffusion", (0, 1)), ("erdp", (0,))):
            plan = make_plan(
                "pointmaze",
                profile="smoke",
                source="local",
                protocol="paper",
                tasks=["pointmaze-umaze"],
                methods=[method],
                seeds=seeds,
                settings=SETTINGS,
            )
            work = PackWork(ledger, plan.runs, "cpu")
            while not work.advance().done:
                pass
    return root


@pytest.fixture
def ledger(trained: Path, tmp_path: Path) -> Ledger:
    """A copy of the finished runs, to damage."""
    shutil.copytree(trained, tmp_path / "runs")
    return Ledger.open(tmp_path / "runs")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture(scope="session")
def graphics() -> str:
    """A graphics library that works here without a screen."""
    program = "import mujoco; mujoco.GLContext(64, 64).make_current()"
    for backend in video.BACKENDS:
        environment = {**os.environ, "MUJOCO_GL": backend}
        if subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True).returncode == 0:
            return backend
    pytest.skip("neither EGL nor OSMesa works here, so nothing can be drawn")


def search_path() -> str:
    """PYTHONPATH of processes that import this project."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def folder_of(ledger: Ledger, name: str) -> Path:
    return script.find_run(ledger, name).path


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistaken command line is answered with."""
    assert script.main(arguments) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    return errors[0]


def direct_returns(folder: Path, step: int, seed: int, episodes: int, candidates: int) -> npt.NDArray[np.float64]:
    """What the command's episodes must return, from the ledger's files."""
    record = read_json(folder / "run.json")
    config = RunConfig.from_dict(record["config"])
    algorithm = make_algorithm([config], [record["seed"]], 4, 2)
    (file,) = (folder / "policies").glob(f"step-{step:09d}.*")
    algorithm.load_policy_state(0, unpack_state(file.read_bytes()))
    environments = [make_environment(EnvironmentSpec("pointmaze-umaze", {})) for _ in range(episodes)]
    return evaluate(algorithm, [environments], [seed], 0, candidates, [True]).reshape(episodes)


@pytest.mark.parametrize(
    ("name", "options", "seed", "episodes", "candidates"),
    [
        (FIRST, ("--policy", "last", "--episodes", "30"), 0, 30, 1),
        ("bc-diffusion.seed1", ("--policy", "last", "--episodes", "25", "--seed", "7"), 7, 25, 1),
        ("erdp", ("--episodes", "20", "--policy", "best"), 0, 20, 4),
        ("erdp", ("--episodes", "20", "--candidates", "2", "--policy", "last"), 0, 20, 2),
    ],
)
def test_figures_are_those_of_the_policy(
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: tuple[str, ...],
    seed: int,
    episodes: int,
    candidates: int,
) -> None:
    run = script.find_run(Ledger.open(trained), name)
    step = run.best_step() if "best" in options else 600
    assert step is not None
    returns = direct_returns(run.path, step, seed, episodes, candidates)

    assert script.main([name, "--ledger", str(trained), *options]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == f"ledger: {trained}"
    assert f"run: {run.run_id}" in lines
    assert f"policy: {'best' if 'best' in options else 'last'}, step {step} of 600" in lines
    assert any(line.startswith("environment: pointmaze-umaze, mujoco 3.") for line in lines)
    mean, spread = returns.mean(), np.sqrt(((returns - returns.mean()) ** 2).sum() / (episodes - 1))
    assert f"return: mean {mean:.3f}, sample std {spread:.3f} over {episodes} episodes" in lines
    assert f"score: mean {100 * mean:.1f}, sample std {100 * spread:.1f} over {episodes} episodes" in lines
    assert f"successes: {int((returns == 1).sum())} of {episodes}" in lines
    assert captured.err == ""


def test_returns_differ_between_episodes(trained: Path) -> None:
    """The figures above would be met by a policy that always fails; this one does not."""
    returns = direct_returns(folder_of(Ledger.open(trained), FIRST), 600, 0, 30, 1)
    assert set(returns) == {0.0, 1.0}


def test_successes_are_counted_only_where_a_return_is_one() -> None:
    returns = np.array([0.0, 1.0, 1.0])
    assert script.summary(get_task("antmaze-umaze-v0"), returns)[-1] == "successes: 2 of 3"
    # References of 0 and 1 make no task one of successes.
    assert "successes" not in script.summary(get_task("antmaze-umaze-v0"), 300 * returns)[-1]
    hopper = get_task("hopper-medium-v2")
    assert script.summary(hopper, np.array([3234.3])) == [
        "return: mean 3234.300 of 1 episode",
        "score: mean 100.0 of 1 episode",
    ]


def resets(monkeypatch: pytest.MonkeyPatch, ledger: Path, seed: int) -> list[int]:
    """Seeds of the episodes that a command starts."""
    seeds: list[int] = []
    reset = PointMaze.reset

    def noted(self: PointMaze, *, seed: int, options: dict[str, Any]) -> Any:
        seeds.append(seed)
        return reset(self, seed=seed, options=options)

    with monkeypatch.context() as patch:
        patch.setattr(PointMaze, "reset", noted)
        assert script.main([FIRST, "--ledger", str(ledger), "--episodes", "8", "--seed", str(seed)]) == 0
    return seeds


def test_episodes_are_fresh_and_a_function_of_the_seed(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = resets(monkeypatch, trained, 0)
    first = capsys.readouterr().out
    assert resets(monkeypatch, trained, 0) == seeds
    assert capsys.readouterr().out == first
    assert set(resets(monkeypatch, trained, 1)).isdisjoint(seeds)
    assert len(set(seeds)) == 8
    in_training = {
        episode_seed(run, step, "episode", episode)
        for run in range(10)
        for step in range(50, 1001, 50)
        for episode in range(100)
    }
    assert in_training.isdisjoint(seeds)


def test_runs_by_name(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger.open(trained)
    ids = [folder.run_id for folder in ledger.runs()]
    assert len(ids) == 3
    assert [script.find_run(ledger, run_id).run_id for run_id in ids] == ids
    assert script.find_run(ledger, "erdp").run_id == ids[2]

    several = error_of(capsys, "bc-diffusion", "--ledger", str(trained))
    assert several == f"error: 'bc-diffusion' is part of 2 runs: {ids[0]}, {ids[1]}"
    unknown = error_of(capsys, "pointmaze-umaze.edrp.seed0", "--ledger", str(trained))
    assert f"did you mean '{ids[2]}'?" in unknown
    assert "did you mean" in error_of(capsys, "zzz", "--ledger", str(trained))

    assert "no ledger at" in error_of(capsys, "erdp", "--ledger", str(tmp_path / "nowhere"))
    Ledger.open(tmp_path / "empty", create=True)
    assert "has no run yet" in error_of(capsys, "erdp", "--ledger", str(tmp_path / "empty"))


def test_a_run_id_that_is_part_of_another_is_that_run(ledger: Ledger) -> None:
    folder = folder_of(ledger, "erdp")
    shutil.copytree(folder, folder.with_name(f"{folder.name}0"))
    assert script.find_run(ledger, folder.name).path == folder


def test_many_matches_are_cut_short(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(10):
        ledger.run(f"other.seed{number}").create({})
    assert error_of(capsys, "other", "--ledger", str(ledger.root)).endswith("other.seed7 and 2 more")


def test_runs_that_are_not_finished(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(ledger, "erdp")
    (folder / "finished.json").unlink()
    assert "is not finished" in error_of(capsys, "erdp", "--ledger", str(ledger.root))
    write_json(folder / "failed.json", {"step": 20, "reason": "loss not finite at step 20"})
    assert "failed (loss not finite at step 20)" in error_of(capsys, "erdp", "--ledger", str(ledger.root))


def test_damaged_runs(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(ledger, "erdp")
    (file,) = (folder / "policies").glob("step-000000600.*")
    content = file.read_bytes()
    write_file(file, content[: len(content) // 2])
    message = error_of(capsys, "erdp", "--policy", "last", "--ledger", str(ledger.root))
    assert "the last policy" in message
    assert "missing or damaged: try --policy best" in message
    shutil.rmtree(folder / "policies")
    assert "the best policy" in error_of(capsys, "erdp", "--ledger", str(ledger.root))

    for content in (b'{"format": 1', b"\xff\xfe"):
        write_file(folder / "run.json", content)
        assert "run.json is damaged" in error_of(capsys, "erdp", "--ledger", str(ledger.root))


def test_a_run_of_another_version_of_the_method(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder_of(ledger, "erdp") / "run.json"
    record = read_json(path)
    record["config"]["agent"]["alpha"] = 0.123
    write_json(path, record)
    assert "made by another version" in error_of(capsys, "erdp", "--ledger", str(ledger.root))


def test_another_mujoco_is_told(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder_of(ledger, FIRST) / "run.json"
    record = read_json(path)
    write_json(path, {**record, "versions": {**record["versions"], "mujoco": "2.1.0"}})
    assert script.main([FIRST, "--ledger", str(ledger.root), "--episodes", "2"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: the run was evaluated with mujoco 2.1.0, not 3.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--episodes", "0"), "--episodes is from 1 to 10000, not 0"),
        (("--seed", "-1"), "--seed is from 0 to 2147483647, not -1"),
        (("--candidates", "0"), "--candidates is from 1 to 10000, not 0"),
        (("--candidates", "4"), "bc-diffusion acts by one sample"),
        (("--video", "out.avi"), "videos are .mp4 files"),
        (("--video", "out"), "videos are .mp4 files"),
        (("--video", "nowhere/out.mp4"), "the folder of the video does not exist"),
        (("--video", "folder.mp4"), "is a folder"),
    ],
)
def test_mistaken_options(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    assert message in error_of(capsys, FIRST, "--ledger", str(trained), *options)


def test_an_unknown_policy_is_told_in_one_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.main([FIRST, "--ledger", str(trained), "--policy", "median"])
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("package", ["imageio", "imageio_ffmpeg"])
def test_a_missing_package_is_told_before_anything_is_evaluated(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = error_of(capsys, FIRST, "--ledger", str(trained), "--video", "out.mp4")
    assert message == f"error: videos need the package {package}: pip install 'erdp-bench[video]'"


def frames_of(path: Path) -> tuple[npt.NDArray[np.uint8], float]:
    """A video's frames [N, height, width, 3] and how many there are to a second."""
    imageio = pytest.importorskip("imageio.v3")
    return imageio.imread(path), imageio.immeta(path)["fps"]


def test_a_video_of_the_first_episode(
    trained: Path, tmp_path: Path, graphics: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    path = tmp_path / "out.mp4"
    assert script.main([FIRST, "--ledger", str(trained), "--episodes", "3", "--video", str(path)]) == 0
    output = capsys.readouterr()
    assert f"video: {path}" in output.out
    assert output.err == ""
    told = re.search(r"filming the first episode: (\d+) steps, return (\S+)", output.out)
    assert told is not None
    run = script.find_run(Ledger.open(trained), FIRST)
    returns = direct_returns(run.path, run.best_step() or 0, 0, 3, 1)
    assert float(told[2]) == returns[0]

    frames, rate = frames_of(path)
    assert frames.shape == (int(told[1]) + 1, 480, 640, 3)
    assert rate == 20  # a decision takes 0.05 s
    red, green, blue = (frames[0, ..., channel].astype(int) for channel in range(3))
    assert ((red > 180) & (green < 90) & (blue < 90)).sum() > 1000, "the goal is not in view"
    assert ((blue > 150) & (red < 120)).sum() > 500, "the start is not in view"
    assert np.abs(frames[0].astype(int) - frames[len(frames) // 2]).max() > 60, "nothing moves"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("name", "steps", "frames", "rate", "size"),
    [("Hopper-v4", 7, 4, 125 / 3, (480, 480)), ("d4rl-antmaze-umaze", 3, 4, 10, (480, 640))],
)
def test_videos_run_in_real_time(
    tmp_path: Path, graphics: str, name: str, steps: int, frames: int, rate: float, size: tuple[int, int]
) -> None:
    """Where decisions are more than the eye follows, steps are left out, never the last."""
    pytest.importorskip("imageio_ffmpeg")
    spec = EnvironmentSpec(name, {})
    episode = video.EpisodeRecorder(make_environment(spec))
    episode.reset(seed=0, options={"evaluation_seed": 1})
    for _ in range(steps):
        episode.step(np.zeros(episode.action_space.shape or (), np.float32))
    video.record_video(spec, episode, tmp_path / "out.mp4")
    decoded, decoded_rate = frames_of(tmp_path / "out.mp4")
    assert decoded.shape == (frames, *size, 3)
    assert decoded_rate == pytest.approx(rate, abs=0.01)
    assert decoded[0].std() > 20


DRAWING = """
import sys
import numpy as np
from erdp_core.environments.make import make_environment
from erdp_core.tasks import EnvironmentSpec

for name in sys.argv[1:]:
    trajectories = []
    for mode in (None, "rgb_array"):
        environment = make_environment(EnvironmentSpec(name, {}), mode)
        environment.reset(seed=3, options={"evaluation_seed": 4})
        environment.action_space.seed(5)
        trajectory = []
        for _ in range(12):
            trajectory.append(environment.step(environment.action_space.sample())[0])
            if mode:
                environment.render()
        trajectories.append(np.array(trajectory))
        environment.close()
    assert np.array_equal(*trajectories), name
"""


def test_drawing_does_not_change_an_episode(graphics: str) -> None:
    environment = {**os.environ, "MUJOCO_GL": graphics, "PYTHONPATH": search_path()}
    names = ["pointmaze-medium", "d4rl-antmaze-umaze", "Hopper-v4", "HalfCheetah-v5"]
    process = subprocess.run([sys.executable, "-c", DRAWING, *names], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_without_graphics_the_figures_come_first(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    environment = {**os.environ, "MUJOCO_GL": "bogus", "PYTHONPATH": search_path()}
    command = [sys.executable, str(ROOT / "orchestration" / "evaluate.py"), FIRST, "--ledger", str(trained)]
    process = subprocess.run(
        [*command, "--episodes", "2", "--video", "out.mp4"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 2
    assert "\nreturn: mean " in process.stdout
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: no video: MUJOCO_GL=bogus does not work here (bogus: ")
    assert line.endswith("unset it to try others")
    assert list(tmp_path.iterdir()) == []


def test_what_to_install_where_no_graphics_library_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setenv("PYOPENGL_PLATFORM", "none that there is")  # neither EGL nor OSMesa loads then
    spec = EnvironmentSpec("pointmaze-umaze", {})
    episode = video.EpisodeRecorder(make_environment(spec))
    episode.reset(seed=0)
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the video of another day")
    with pytest.raises(UserError, match="apt-get install libegl1 libgl1-mesa-dri, or libosmesa6") as caught:
        video.record_video(spec, episode, path)
    assert "\n" not in str(caught.value)
    assert "egl: " in str(caught.value)
    assert "osmesa: " in str(caught.value)
    assert path.read_bytes() == b"the video of another day"
    assert list(tmp_path.iterdir()) == [path]
