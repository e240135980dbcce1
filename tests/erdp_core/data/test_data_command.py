"""`python -m erdp_core.data`: each command on real files, what it prints, its exit status."""

import hashlib
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box
from minari.data_collector import EpisodeBuffer

from erdp_core.data import __main__ as command
from erdp_core.data import download, load
from erdp_core.data.collection import store_collection
from erdp_core.data.d4rl_files import file_path, verify
from erdp_core.data.listing import print_list
from erdp_core.data.load import load_dataset, local_path
from erdp_core.tasks import TABLES, TASKS, get_task
from tests.erdp_core.data.breaking_server import Behaviour, deaf_address, hopper, serving

HOPPER = get_task("hopper-medium-v2")
CONTENT = hopper(0, rows=300)
NOWHERE = "http://127.0.0.1:1/"
VARIABLES = ("D4RL_DATASET_DIR", "MINARI_DATASETS_PATH", "ERDP_CACHE_DIR")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of the test's own; no proxy; no mirror but those that a test names."""
    for variable in VARIABLES:
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ERDP_D4RL_MIRRORS"):
        monkeypatch.delenv(variable, raising=False)
    for mirror in ("OFFICIAL", "HUGGING_FACE"):
        monkeypatch.setattr(download, mirror, NOWHERE)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit status, lines on stdout, and on stderr."""
    status = command.main(arguments)
    printed = capsys.readouterr()
    return status, printed.out.splitlines(), printed.err.splitlines()


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "erdp_core.data", *arguments], capture_output=True, text=True)


def place(name: str = "hopper-medium-v2") -> Path:
    return file_path(get_task(name))


def policy_file(path: Path, sizes: tuple[int, int] | None = (11, 3)) -> Path:
    """A policy of one layer; without sizes, D4RL's layout for the ant."""
    stream = np.random.default_rng(0)
    if sizes is None:
        shapes = {"fc0": (16, 29), "last_fc": (8, 16), "last_fc_log_std": (8, 16)}
        weights = {f"{name}.weight": stream.normal(0, 0.1, shape) for name, shape in shapes.items()}
        weights |= {f"{name}.bias": np.zeros(shape[0]) for name, shape in shapes.items()}
    else:
        seen, acted = sizes
        weights = {"w0": stream.normal(0, 0.1, (acted, seen)), "b0": np.zeros(acted)}
        weights |= {"in_shift": np.zeros(seen), "in_scale": np.ones(seen)}
        weights |= {"out_shift": np.zeros(acted), "out_scale": np.ones(acted)}
    np.savez(path, **weights)  # type: ignore[arg-type]
    return path


def minari_hopper(dataset_id: str, rows: int) -> None:
    stream = np.random.default_rng(rows)
    episode = EpisodeBuffer(
        observations=stream.normal(size=(rows + 1, 11)).astype(np.float32),
        actions=stream.uniform(-1, 1, (rows, 3)).astype(np.float32),
        rewards=np.ones(rows, np.float32),
        terminations=np.zeros(rows, np.bool_),
        truncations=np.arange(rows) == rows - 1,
    )
    space = Box(-1.0, 1.0, (3,), np.float32)
    store_collection(dataset_id, [episode], observation_size=11, action_space=space, algorithm="", description="")


# --- list ---


def listed(lines: list[str]) -> dict[str, dict[str, list[str]]]:
    """By task (and "": the head), then by source: the words of its line. A task's own are those of source ""."""
    found: dict[str, dict[str, list[str]]] = {}
    task = ""
    for line in lines[: lines.index("")]:
        words = line.split()
        if not line.startswith(" "):
            task = words[0] if found else ""
            found[task] = {"": words[1:]}
        elif not line.startswith("    "):
            found[task][words[0]] = words[1:]
        else:
            found[task]["reason"] = words
    return found


def test_list_shows_the_registry_and_where_data_are_looked_for(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D4RL_DATASET_DIR")
    status, lines, errors = run(capsys, "list")
    assert (status, errors) == (0, [])
    table = listed(lines)
    assert list(table) == ["", *TASKS]
    assert max(map(len, lines)) <= 200
    for name, task in TASKS.items():
        minimum, maximum, steps = table[name][""]
        assert float(minimum) == pytest.approx(task.reference_min, rel=1e-9)
        assert float(maximum) == pytest.approx(task.reference_max, rel=1e-9)
        assert int(steps) == task.step_limit
        sources = {"d4rl": task.d4rl_file, "minari": task.minari_ids, "local": task.local_id}
        assert set(table[name]) - {""} == {source for source, what in sources.items() if what}
    assert table["kitchen-mixed-v0"]["d4rl"] == [
        "FrankaKitchen-v1",
        "missing",
        "kitchen_microwave_kettle_bottomburner_light-v0.hdf5",
    ]
    assert table["antmaze-large-diverse-v0"]["minari"] == [
        "AntMaze_Large_Diverse_GR-v4",
        "missing",
        "D4RL/antmaze/large-diverse-v1",
    ]
    expert = " ".join(table["hopper-medium-expert-v2"]["minari"])
    assert expert == "Hopper-v5 missing mujoco/hopper/medium-v0 + mujoco/hopper/expert-v0 (other data than D4RL's)"
    assert [line.split() for line in lines[lines.index("") + 2 :]] == [
        ["d4rl", f"{Path.home()}/.d4rl/datasets", "(to", "be", "changed", "with", "D4RL_DATASET_DIR)"],
        ["minari,", "local", f"{folders}/MINARI_DATASETS_PATH", "(set", "by", "MINARI_DATASETS_PATH)"],
        ["cache", "of", "all", f"{folders}/ERDP_CACHE_DIR", "(set", "by", "ERDP_CACHE_DIR)"],
    ]


def test_list_shows_what_is_present_and_reads_it_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place().write_bytes(CONTENT)
    minari_hopper("mujoco/hopper/medium-v0", 40)
    minari_hopper("mujoco/hopper/expert-v0", 30)
    command.main(["collect", "pointmaze-umaze", "--rows", "200"])
    capsys.readouterr()
    status, lines, _ = run(capsys, "list")
    table = listed(lines)
    assert status == 0
    for name, source, what in (
        ("hopper-medium-v2", "d4rl", ["hopper_medium-v2.hdf5"]),
        ("hopper-medium-v2", "minari", ["mujoco/hopper/medium-v0"]),
        ("hopper-medium-expert-v2", "minari", ["mujoco/hopper/medium-v0", "+", "mujoco/hopper/expert-v0"]),
        ("pointmaze-umaze", "local", ["erdp/pointmaze-umaze-v0"]),
    ):
        dataset = load_dataset(get_task(name), source)
        rewarded = int((dataset.transitions.rewards > 0).sum())
        environment, rows, rewards, megabytes, fingerprint, *rest = table[name][source]
        assert (environment, fingerprint) == (dataset.environment.name, dataset.fingerprint)
        assert (int(rows), int(rewards)) == (len(dataset.transitions), rewarded)
        assert 0 <= float(megabytes) < 1
        assert rest[: len(what)] == what
    assert [table["hopper-medium-v2"][source][1] for source in ("d4rl", "minari")] == ["299", "40"]
    assert table["hopper-medium-expert-v2"]["minari"][1] == "70"

    def read_again(*arguments: Any, **more: Any) -> Any:
        raise AssertionError("read again")

    for name in ("read_d4rl", "read_minari"):
        monkeypatch.setattr(load, name, read_again)
    assert run(capsys, "list") == (0, lines, [])


def test_list_shows_what_the_data_tell(capsys: pytest.CaptureFixture[str]) -> None:
    place().write_bytes(CONTENT)
    with h5py.File(place(), "a") as file:
        file.attrs["environment"] = "Hopper-v5"
    minari_hopper("mine/older-v0", 20)
    print_list([replace(HOPPER, minari_ids=("mine/newer-v1", "mine/older-v0"), minari_note=None)])
    sources = listed(capsys.readouterr().out.splitlines())[HOPPER.name]
    assert sources["d4rl"][0] == "Hopper-v5"
    assert sources["minari"][-1] == "mine/older-v0"
    assert "or" not in sources["minari"]


def test_list_names_damage(capsys: pytest.CaptureFixture[str]) -> None:
    place().write_bytes(b"404" * 400_000)
    status, lines, errors = run(capsys, "list")
    table = listed(lines)
    assert (status, errors) == (1, [])
    assert table["hopper-medium-v2"]["d4rl"] == ["Hopper-v4", "1.2", "unusable", "hopper_medium-v2.hdf5"]
    reason = " ".join(table["hopper-medium-v2"]["reason"])
    assert reason.startswith(f"{place()} is damaged, cut short or not an HDF5 file (")
    assert table["walker2d-medium-v2"]["d4rl"][1] == "missing"


def test_list_has_a_line_for_a_file_that_a_task_names(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folders / "mine.hdf5"
    task = replace(HOPPER, file=str(file), d4rl_file=None)
    lines = []
    for _ in range(2):
        assert print_list([task]) == 0
        lines.append(listed(capsys.readouterr().out.splitlines())[HOPPER.name]["file"])
        file.write_bytes(CONTENT)
    missing, (environment, rows, _, _, fingerprint, what) = lines
    assert missing == ["Hopper-v4", "missing", str(file)]
    assert (environment, rows, what) == ("Hopper-v4", "299", str(file))
    assert fingerprint == load_dataset(HOPPER, file=file).fingerprint


# --- download ---


def test_download_gets_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(CONTENT) as server:
        status, lines, errors = run(capsys, "download", HOPPER.name, "--mirror", NOWHERE, "--mirror", server.url)
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        url = f"{server.url}gym_mujoco_v2/hopper_medium-v2.hdf5"
        assert (status, lines) == (0, [f"{HOPPER.name}: from {url}, sha256 {sha256}, {place()}"])
        assert any(line.startswith("hopper_medium-v2.hdf5: getting ") for line in errors)  # progress
        assert load_dataset(HOPPER).source == "d4rl"
        again = (0, [f"{HOPPER.name}: there already, sha256 {sha256}, {place()}"], [])
        assert run(capsys, "download", HOPPER.name, "--mirror", server.url) == again
        assert len(server.requests) == 1


def test_download_goes_on_with_the_others_when_one_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(CONTENT, Behaviour(status=404), Behaviour(status=404), Behaviour()) as server:
        status, lines, errors = run(
            capsys,
            "download",
            "pointmaze-umaze",
            "walker2d-medium-v2",
            HOPPER.name,
            HOPPER.name,
            "--mirror",
            server.url,
        )
    assert status == 1
    assert [line.split(":")[0] for line in lines] == [HOPPER.name]
    failed = [line for line in errors if line.startswith("error: ")]
    assert failed[0].startswith("error: pointmaze-umaze: D4RL has no file for it")
    assert failed[1].startswith("error: walker2d-medium-v2: walker2d_medium-v2.hdf5 is not on this machine")
    assert len(failed) == 2


def test_offline_all_tasks_are_told_in_two_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*arguments: Any, **more: Any) -> Any:
        time.sleep(3)
        raise OSError("after 3 seconds")

    monkeypatch.setattr(download, "HUGGING_FACE", "https://d4rl.invalid/")
    with deaf_address() as deaf:
        monkeypatch.setattr(download, "OFFICIAL", deaf)
        connect = download.socket.create_connection

        def connect_or_hang(address: tuple[str, int], *more: Any) -> Any:
            return hang() if address[0] == "d4rl.invalid" else connect(address, *more)

        monkeypatch.setattr(download.socket, "create_connection", connect_or_hang)
        began = time.monotonic()
        status, lines, errors = run(capsys, "download", "all")
        seconds = time.monotonic() - began
    assert seconds < 2.0
    assert (status, lines, len(errors)) == (1, [], 20)
    for name, error in zip(TABLES["all"], errors, strict=True):
        assert error.startswith(f"error: {name}: {place(name).name} is not on this machine")
        assert "cannot be reached: timed out" in error
        assert "cannot be reached: no answer within 1 s" in error
        assert f"put it at {place(name)}, or run `python -m erdp_core.data import-d4rl {name} FILE`" in error


# --- verify, import-d4rl ---


def test_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "verify") == (0, ["none of D4RL's files is present"], [])
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    walker = place("walker2d-medium-v2")
    for path in (place(), walker):
        path.write_bytes(CONTENT)
    verify(HOPPER, record=True)
    status, lines, errors = run(capsys, "verify")
    assert (status, errors) == (0, [])
    assert lines == [
        f"hopper-medium-v2: as recorded, sha256 {sha256}, {place()}",
        f"walker2d-medium-v2: recorded now, as there was no record, sha256 {sha256}, {walker}",
    ]
    place().write_bytes(CONTENT[:-1] + b"\0")
    status, lines, errors = run(capsys, "verify")
    assert status == 1
    assert lines == [f"walker2d-medium-v2: as recorded, sha256 {sha256}, {walker}"]
    assert errors == [
        f"error: hopper-medium-v2: {place()} changed since its sha256 was recorded: delete it and get it anew"
    ]
    status, lines, errors = run(capsys, "verify", "kitchen", "walker2d-medium-v2")
    assert (status, len(lines), len(errors)) == (1, 1, 3)
    assert all("no file" in error and "download kitchen-" in error for error in errors)


def test_import_d4rl(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folders / "mine.hdf5"
    file.write_bytes(CONTENT)
    status, lines, errors = run(capsys, "import-d4rl", HOPPER.name, str(file))
    fingerprint = load_dataset(HOPPER, "d4rl").fingerprint
    assert (status, lines, errors) == (0, [f"{HOPPER.name}: 299 rows, {fingerprint}, in {place()}"], [])
    file.write_bytes(hopper(1, rows=200))
    status, lines, errors = run(capsys, "import-d4rl", HOPPER.name, str(file))
    assert (status, lines, len(errors)) == (2, [], 1)
    assert "--overwrite" in errors[0]
    assert run(capsys, "import-d4rl", HOPPER.name, str(file), "--overwrite")[0] == 0
    assert verify(HOPPER).record == "same"
    assert len(load_dataset(HOPPER).transitions) == 199


# --- collect ---


def test_collect_in_a_shell() -> None:
    first = in_a_process("collect", "pointmaze-large", "--rows", "2000")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("pointmaze-large: 2000 rows, ")
    assert first.stdout.endswith(f", in {local_path(get_task('pointmaze-large'))}\n")
    listed_line = next(line for line in in_a_process("list").stdout.splitlines() if "2,000" in line).split()
    assert listed_line[:4] == ["local", "pointmaze-large", "2,000", first.stdout.split()[3]]
    assert listed_line[5] in first.stdout  # the fingerprint


def test_collect_leaves_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert "200 rows" in run(capsys, "collect", "pointmaze-umaze", "--rows", "200")[1][0]
    _, (skipped, *made), _ = run(capsys, "collect", "pointmaze", "--rows", "200", "--seed", "1")
    assert skipped.startswith("pointmaze-umaze: there already, 200 rows (")
    assert [line.split(" rows")[0] for line in made] == ["pointmaze-medium: 200", "pointmaze-large: 200"]
    status, nothing, errors = run(capsys, "collect", "pointmaze-umaze", "--rows", "300")
    assert (status, nothing) == (2, [])
    assert errors[0].startswith("error: pointmaze-umaze: 200 rows are there already (")
    assert errors[0].endswith("), not 300: --overwrite collects it anew")
    other = load_dataset(get_task("pointmaze-medium")).fingerprint
    _, (line,), _ = run(capsys, "collect", "pointmaze-medium", "--rows", "300", "--overwrite")
    assert line.startswith("pointmaze-medium: 300 rows")
    assert load_dataset(get_task("pointmaze-medium")).fingerprint != other  # of another seed


def test_collect_by_a_policy(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ant = str(policy_file(folders / "ant.npz", None))
    status, lines, errors = run(capsys, "collect", "antmaze-umaze-v0", "--policy", ant, "--rows", "60")
    dataset = load_dataset(get_task("antmaze-umaze-v0"), "local")
    told = f"antmaze-umaze-v0: 60 rows, 0 rewarded, {dataset.fingerprint}, in {dataset.path}, "
    assert status == 0
    assert re.fullmatch(re.escape(told) + r"\d+\.\d s \([\d,]+ rows a second\)", lines[0])
    assert errors[-1].startswith("antmaze-umaze-v0: 60 of 60 rows")  # progress


def test_collect_in_any_environment(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["collect", "--environment", "Hopper-v5", "--dataset", "mine/hopper/first-v0", "--rows", "50"]
    arguments += ["--policy", str(policy_file(folders / "hopper.npz"))]
    status, lines, _ = run(capsys, *arguments, "--noise", "0.1")
    assert status == 0
    assert re.match(r"mine/hopper/first-v0: 50 rows, \d+ rewarded, [0-9a-f]{16}, in .* s \(", lines[0])
    steps = [episode.actions for episode in minari.load_dataset("mine/hopper/first-v0").iterate_episodes()]
    assert sum(map(len, steps)) == 50
    status, left, _ = run(capsys, *arguments)
    assert (status, left[0].split(" (")[0]) == (0, "mine/hopper/first-v0: there already, 50 rows")
    status, anew, _ = run(capsys, *arguments, "--overwrite")
    assert status == 0
    assert anew[0].split(", ")[2] != lines[0].split(", ")[2]  # without noise


# --- mistakes ---


MISTAKES = {
    "collect pointmaze-umase": "unknown task or table 'pointmaze-umase': did you mean 'pointmaze-umaze'?",
    "download antmase": "did you mean 'antmaze'?",
    "verify hopper-medium": "did you mean 'hopper-medium-v2'?",
    "import-d4rl hoper-medium-v2 x.hdf5": "did you mean 'hopper-medium-v2'?",
    "import-d4rl hopper-medium-v2 nowhere.hdf5": "no file nowhere.hdf5",
    "import-d4rl hopper-medium-v2": "FILE",
    "download": "TASK",
    "download hopper-medium-v2 --mirror ftp://a.example/": "is no http or https address of a folder",
    "collect": "give a TASK, such as pointmaze-umaze, or --environment",
    "collect --policy p.npz": "give a TASK, such as pointmaze-umaze, or --environment",
    "collect pointmaze-umaze hopper-medium-v2": "hopper-medium-v2 has no collector: pointmaze-umaze, ",
    "collect pointmaze-umaze antmaze-umaze-v0": "antmaze-umaze-v0 is collected by a policy: give --policy FILE, a .npz",
    "collect antmaze-umaze-v0 pointmaze-umaze --policy p.npz": "--policy p.npz: pointmaze-umaze is collected by",
    "collect antmaze-umaze-v0 --policy p.npz": "no policy file p.npz",
    "collect pointmaze-umaze --rows 0": "rows 0 is too small",
    "collect pointmaze-umaze --rows many": "--rows",
    "collect pointmaze-umaze --environment Hopper-v5": "TASK (pointmaze-umaze) and --environment (Hopper-v5)",
    "collect pointmaze-umaze --dataset mine/a-v0": "TASK (pointmaze-umaze) and --dataset (mine/a-v0)",
    "collect pointmaze-umaze --noise 0": "TASK (pointmaze-umaze) and --noise (0.0)",
    "collect --environment Hopper-v5 --rows 9": "--environment (Hopper-v5) needs --dataset and --policy as well",
    "collect --environment Hoper-v5 --dataset a-v0 --policy p.npz --rows 9": "the nearest are Hopper-v",
    "colect": "did you mean 'collect'?",
    "": "COMMAND",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_are_one_line(arguments: str, folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = command.main(arguments.split())
    except SystemExit as end:  # of the argument parser
        status = int(str(end.code))
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert MISTAKES[arguments] in printed.err
    assert [path for variable in VARIABLES for path in (folders / variable).iterdir()] == []


def test_a_mistake_in_a_process_of_its_own() -> None:
    result = in_a_process("collect", "hopper-medium-v2")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("arguments", ["--help", "collect --help", "download nonsense", "collect --noise 1"])
def test_arguments_are_read_in_a_moment(arguments: str) -> None:
    program = (
        "import sys\nfrom erdp_core.data.__main__ import main\n"
        f"try: main({arguments.split()!r})\nexcept SystemExit: pass\n"
        "print(*{'torch', 'mujoco', 'numpy', 'minari', 'rich'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("name", ["", "list", "download", "verify", "import-d4rl", "collect"])
def test_help_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main([*name.split(), "--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0
    assert printed.startswith(f"usage: python -m erdp_core.data {name}".rstrip())
    assert f"examples:\n  python -m erdp_core.data {name or 'list'}" in printed
