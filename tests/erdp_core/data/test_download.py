"""Getting D4RL's files, from a real server that breaks, stalls, truncates, lies; and from none."""

import hashlib
import io
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from erdp_core.data import download as download_module
from erdp_core.data.d4rl_files import file_path, verify
from erdp_core.data.download import HUGGING_FACE, OFFICIAL, Downloader, Patience, find_mirrors
from erdp_core.errors import DataError, MissingDataError
from erdp_core.tasks import get_task
from tests.erdp_core.data.breaking_server import PROGRAM, Behaviour, damaged_end, deaf_address, hopper, serving, start

TASK = get_task("hopper-medium-v2")
QUICK = Patience(contact_seconds=1.0, stall_seconds=1.0, attempts=3, pause_seconds=0.01)
ONCE = Patience(attempts=1)
HALF = 300_000
PAGE = b"<!DOCTYPE html><html><body>Please sign in</body></html>" * 200
NOWHERE = "http://127.0.0.1:1/"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """D4RL's cache folder, not there yet; no proxy, no mirrors of the machine's; no connection left open."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("ERDP_D4RL_MIRRORS", raising=False)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl" / "datasets"))
    before = len(os.listdir("/proc/self/fd"))
    yield tmp_path / "d4rl" / "datasets"
    deadline = time.monotonic() + 2
    while len(os.listdir("/proc/self/fd")) > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def content() -> bytes:
    made = hopper(0)
    assert len(made) > 1.5 * HALF
    return made


def get(*mirrors: str, patience: Patience = QUICK) -> tuple[str | None, list[str]]:
    """Download the task's file. Returns where it came from, and what was told, line by line."""
    told = io.StringIO()
    found = Downloader(mirrors, patience=patience, console=Console(file=told)).download(TASK)
    assert found.path == beside("")
    assert found.sha256 == hashlib.sha256(beside("").read_bytes()).hexdigest()
    return found.url, told.getvalue().splitlines()


def refused(*mirrors: str, kind: type[DataError] = MissingDataError, patience: Patience = QUICK) -> str:
    """The one line of the error that a download ends with."""
    with pytest.raises(kind) as raised:
        get(*mirrors, patience=patience)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def beside(suffix: str) -> Path:
    """The task's file ('') and what lies beside it."""
    path = file_path(TASK)
    return path.with_name(path.name + suffix)


def assert_complete(content: bytes) -> None:
    """The file is there, whole, with its record, and nothing is left of getting it."""
    assert beside("").read_bytes() == content
    assert beside(".sha256").read_text() == f"{hashlib.sha256(content).hexdigest()}  hopper_medium-v2.hdf5\n"
    assert set(beside("").parent.iterdir()) == {beside(""), beside(".sha256")}
    assert verify(TASK) == (beside(""), hashlib.sha256(content).hexdigest(), "same")


def test_a_whole_download_happens_once(content: bytes) -> None:
    with serving(content) as server:
        url, told = get(server.url)
        assert url == f"{server.url}gym_mujoco_v2/hopper_medium-v2.hdf5"
        assert told == [f"hopper_medium-v2.hdf5: getting {len(content) / 1e6:.1f} MB from {url}"]
        assert_complete(content)
        assert get(server.url) == (None, [])
        assert [request.path for request in server.requests] == ["/datasets/gym_mujoco_v2/hopper_medium-v2.hdf5"]
    if sha256sum := shutil.which("sha256sum"):
        checked = subprocess.run([sha256sum, "-c", beside(".sha256").name], cwd=beside("").parent, capture_output=True)
        assert checked.returncode == 0


@pytest.mark.parametrize("end", [Behaviour(cut=HALF), Behaviour(stall=HALF)], ids=["closed", "stalled"])
@pytest.mark.parametrize("stamp", ["etag", "modified"])
def test_a_broken_download_goes_on_where_it_was(content: bytes, end: Behaviour, stamp: str) -> None:
    etag, date = ('"a"', None) if stamp == "etag" else (None, "Wed, 21 Oct 2020 07:28:00 GMT")
    first, second = (replace(behaviour, etag=etag, modified=date) for behaviour in (end, Behaviour()))
    with serving(content, first, second) as server:
        _, told = get(server.url)
        assert server.ranges == [None, f"bytes={HALF}-"]
        assert server.requests[1].if_range == (etag or date)
        assert [request.sent for request in server.requests] == [HALF, len(content) - HALF]
    assert any("broke off" in line and "again in 0.01 s" in line for line in told)
    assert any("timed out" in line for line in told) == (end.stall is not None)
    assert f"going on at 0.3 MB of {len(content) / 1e6:.1f} MB" in told[-1]
    assert_complete(content)


def test_the_next_call_goes_on_too_from_where_the_part_is_from(content: bytes) -> None:
    with (
        serving(content, Behaviour(status=503)) as first,
        serving(content, Behaviour(cut=HALF), Behaviour(status=404), Behaviour()) as second,
    ):
        message = refused(first.url, second.url, patience=ONCE)
        assert f"broke off at {HALF} of {len(content)} bytes" in message
        assert "(the same command goes on from 0.3 MB)" in message
        assert not beside("").exists()
        get(first.url, second.url)
        assert len(first.requests) == 2  # of the first call
        assert second.ranges[-1] == f"bytes={HALF}-"
    assert_complete(content)


STARTS_ANEW = {
    "Range ignored": (Behaviour(), Behaviour(heeds_range=False)),
    "changed": (Behaviour(), Behaviour(etag='"2"')),
    "changed, If-Range ignored": (Behaviour(), Behaviour(etag='"2"', heeds_if_range=False)),
    "no ETag": (Behaviour(etag=None), Behaviour(etag=None)),
    "weak ETag": (Behaviour(etag='W/"1"'), Behaviour(etag='W/"1"')),
    "another size, unsaid": (Behaviour(content=hopper(1, rows=8000)), Behaviour(etag=None, heeds_if_range=False)),
    "shorter than the part": (Behaviour(content=hopper(1, rows=20_000), cut=900_000), Behaviour(heeds_if_range=False)),
}


@pytest.mark.parametrize("case", STARTS_ANEW)
def test_what_cannot_be_gone_on_with_starts_anew(content: bytes, case: str) -> None:
    first, second = STARTS_ANEW[case]
    old = content[::-1] if first.content is None else first.content  # of the same size
    cut = first.cut or HALF
    with serving(content, Behaviour(content=old, cut=cut, etag=first.etag), second) as server:
        get(server.url)
        asks_for_the_rest = first.etag == '"version 1"'
        assert server.ranges[:2] == [None, f"bytes={cut}-" if asks_for_the_rest else None]
        assert server.requests[-1].sent == len(content)
        assert len(server.requests) <= 3
        assert len({request.path for request in server.requests}) == 1
    assert_complete(content)


@pytest.mark.parametrize("notes", ["", "{", '["url"]', "[1, 2, 3]"])
def test_a_part_that_nothing_is_known_of_starts_anew(content: bytes, notes: str) -> None:
    beside("").parent.mkdir(parents=True)
    beside(".part").write_bytes(b"remains" * 1000)
    beside(".part.json").write_text(notes)
    with serving(content) as server:
        get(server.url)
        assert server.ranges == [None]
    assert_complete(content)


def test_a_whole_part_is_not_asked_for_again(content: bytes) -> None:
    with serving(content, Behaviour(cut=HALF), Behaviour(status=404)) as server:
        refused(server.url, patience=ONCE)
        beside(".part").write_bytes(content)  # as if killed between the last byte and the renaming
        get(server.url)
        assert len(server.requests) == 2  # of the first call, one for each place a mirror may have it at
    assert_complete(content)


def test_one_that_goes_on_breaking_is_given_up(content: bytes) -> None:
    with serving(hopper(1), Behaviour(cut=1000)) as server, serving(content) as second:
        url, told = get(server.url, second.url)
        assert second.ranges == [None]  # bytes of another address are not gone on with
        assert url == f"{second.url}gym_mujoco_v2/hopper_medium-v2.hdf5"
        assert server.ranges[:3] == [None, "bytes=1000-", "bytes=2000-"]
    assert any("tried 3 times" in line for line in told)
    assert_complete(content)


def test_attempts_are_counted_anew_where_there_is_headway(content: bytes) -> None:
    with serving(content, Behaviour(cut=120_000)) as server:
        get(server.url, patience=replace(QUICK, attempts=2))
        assert len(server.requests) == -(-len(content) // 120_000) > 3
    assert_complete(content)


def test_no_headway_is_what_was_lost_and_came_again(content: bytes) -> None:
    with serving(content, Behaviour(cut=HALF, etag=None)) as server:
        assert "tried 3 times" in refused(server.url)
        assert server.ranges == [None] * 6  # both places


WRONG = {
    "a page": Behaviour(content=PAGE),
    "nothing": Behaviour(content=b""),
    "a truncated file": Behaviour(content=hopper(0)[:-5000]),
    "closed early, no length": Behaviour(announces=False, cut=HALF),
    "a damaged file": Behaviour(content=damaged_end(hopper(0))),
    "no rewards": Behaviour(content=hopper(0, rewards=np.zeros(0))),
    "an HDF5 file of another kind": Behaviour(content=hopper(0, rows=3).replace(b"rewards", b"rewordz")),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bytes_leave_no_file(name: str, content: bytes) -> None:
    with serving(content, WRONG[name]) as server, serving(content, Behaviour(announces=False)) as second:
        message = refused(server.url)
        assert f"{server.url}gym_mujoco_v2/hopper_medium-v2.hdf5 (what it sent is not in D4RL's layout" in message
        assert {path.suffix for path in beside("").parent.iterdir()} <= {".json"}
        get(server.url, second.url)
    assert_complete(content)


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_the_next_mirror_helps(content: bytes, status: int) -> None:
    with serving(content, Behaviour(status=status)) as server, serving(content) as second:
        url, told = get(server.url, second.url)
        assert url == f"{second.url}gym_mujoco_v2/hopper_medium-v2.hdf5"
        assert len(server.requests) == 2  # both places, once each
        assert f"it answered {status} " in told[0]
        beside("").unlink()
        message = refused(server.url)
    assert f"{server.url}hopper_medium-v2.hdf5 (it answered {status} " in message
    with serving(content, Behaviour(sent_to="/in a circle")) as server:
        assert "(it answered 302 " in refused(server.url)
    assert f"put it at {beside('')}, " in message


NO_ADDRESSES = ("http://[nowhere/", "http://127.0.0.1:port/", "file:///etc/hostname")
NONSENSE = (Behaviour(status=416), Behaviour(always_partial=True), *(Behaviour(sent_to=url) for url in NO_ADDRESSES))


@pytest.mark.parametrize("wrong", NONSENSE)
def test_nonsense_is_asked_for_once(content: bytes, wrong: Behaviour) -> None:
    with serving(content, wrong) as server, serving(content) as second:
        url, told = get(server.url, second.url)
        assert len(server.requests) == 2  # one for each place a mirror may have it at
    assert (url, len(told)) == (f"{second.url}gym_mujoco_v2/hopper_medium-v2.hdf5", 3)
    assert_complete(content)


def test_a_mirror_may_have_all_files_in_one_place_and_any_letters_in_its_name(content: bytes) -> None:
    with serving(content, Behaviour(status=404), Behaviour()) as server:
        url, _ = get(f"{server.url}donn\u00e9es d4rl%2C v2")
        assert server.requests[1].path == "/datasets/donn%C3%A9es%20d4rl%2C%20v2/hopper_medium-v2.hdf5"
    assert url == server.url.removesuffix("/datasets/") + server.requests[1].path
    assert_complete(content)


def test_a_recorded_sha256_must_come_again(content: bytes) -> None:
    with serving(hopper(1)) as other, serving(content) as server:
        get(server.url)
        beside("").unlink()
        message = refused(other.url)
        assert f"what it sent is of sha256 {hashlib.sha256(hopper(1)).hexdigest()}, but {beside('.sha256')}" in message
        assert not beside("").exists()
        get(other.url, server.url)
        assert_complete(content)
        beside("").unlink()
        beside(".sha256").write_text("nonsense")
        asked = len(server.requests)
        assert "is not as sha256sum writes it: delete it" in refused(server.url, kind=DataError)
        assert len(server.requests) == asked  # told before anything comes


def test_a_file_that_is_there_is_checked(content: bytes) -> None:
    with serving(content) as server:
        get(server.url)
    damaged = bytearray(content)
    damaged[HALF] ^= 1
    beside("").write_bytes(damaged)
    assert "changed since its sha256 was recorded" in refused(NOWHERE, kind=DataError)
    assert beside("").read_bytes() == damaged
    beside(".sha256").unlink()
    assert get(NOWHERE) == (None, [])  # a file of the user's own is left as it is
    assert not beside(".sha256").exists()
    beside("").write_bytes(PAGE)
    assert "is not in D4RL's layout, or cut short" in refused(NOWHERE, kind=DataError)
    assert beside("").read_bytes() == PAGE


def test_another_process_goes_on_after_a_kill_and_two_do_not_meet(content: bytes) -> None:
    with serving(content, Behaviour(stall=HALF), Behaviour()) as server:
        process = start(server.url)
        try:
            deadline = time.monotonic() + 30
            while not beside(".part").exists() or beside(".part").stat().st_size < HALF:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            message = refused(server.url, kind=DataError)
            assert message == f"another process is getting {beside('')}: wait until it is done"
            assert len(server.requests) == 1
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert not beside("").exists()
        get(server.url)
        assert server.ranges == [None, f"bytes={HALF}-"]
        assert server.requests[1].sent == len(content) - HALF
    assert_complete(content)


def test_two_processes_at_once_leave_one_whole_file(content: bytes) -> None:
    with serving(content, Behaviour(pause=0.05)) as server:
        processes = [start(server.url) for _ in range(2)]
        lines = [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes]
        assert len(server.requests) == 1
    assert_complete(content)
    assert sum(line.startswith(server.url) for line in lines) == 1
    assert sum(line.startswith("error: another process is getting") or line == "None" for line in lines) == 1


def offline_message(*mirrors: str) -> str:
    """What is said with the ordinary patience; asserts that it is said within 2 seconds."""
    began = time.monotonic()
    message = refused(*mirrors, patience=Patience())
    assert time.monotonic() - began < 2.0
    return message


def test_offline_it_says_what_is_missing_where_to_get_it_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: Any, **more: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert "/gym_mujoco_v2/hopper_medium-v2.hdf5 (cannot be reached: Connection refused)" in offline_message(NOWHERE)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = offline_message(*find_mirrors())
    assert message.startswith("hopper_medium-v2.hdf5 is not on this machine and could not be downloaded from http")
    assert f"{OFFICIAL}gym_mujoco_v2/hopper_medium-v2.hdf5 (cannot be reached: Name or service not known)" in message
    assert f"{HUGGING_FACE}hopper_medium-v2.hdf5 (cannot be reached: Name or service not known)" in message
    assert f"put it at {beside('')}, " in message
    assert message.endswith("run `python -m erdp_core.data import-d4rl hopper-medium-v2 FILE`")


def test_a_name_server_that_hangs_holds_up_neither_the_message_nor_the_end_of_the_process() -> None:
    hanging = "import socket, time\nsocket.getaddrinfo = lambda *arguments, **more: time.sleep(60)\n"
    timed = PROGRAM.replace('print("ready"', 'began = time.monotonic(); print("ready"')
    timed += "print(time.monotonic() - began)\n"
    command = [sys.executable, "-c", hanging + timed, "http://a.example/", "http://b.example/", "https://c.example/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=True)
    _, message, seconds = done.stdout.splitlines()
    assert float(seconds) < 2.0
    assert message.count("cannot be reached: no answer within 1 s") == 6  # three mirrors, two places each


def test_a_host_that_does_not_answer_is_told_in_time() -> None:
    with deaf_address() as address:
        assert "cannot be reached: timed out" in offline_message(address)


def test_a_network_that_goes_away_is_told_soon_and_once(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(contact_seconds=0.2, stall_seconds=0.2, attempts=3, pause_seconds=0.01)
    resolve = socket.getaddrinfo

    def hang_after_the_break(*arguments: Any, **more: Any) -> Any:
        time.sleep(10 if beside(".part").exists() else 0)
        return resolve(*arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hang_after_the_break)
    with serving(content, Behaviour(stall=HALF)) as server:
        downloader = Downloader([server.url], patience=patience)
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(MissingDataError, match=r"no answer within 0\.2 s.*goes on from 0\.3 MB"):
                downloader.download(TASK)
    assert time.monotonic() - began < 2.0


def test_proxies_of_the_environment_are_used(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(content) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        assert get("http://d4rl.invalid/data/")[0] == proxy.requests[0].path
        assert proxy.requests[0].path == "http://d4rl.invalid/data/gym_mujoco_v2/hopper_medium-v2.hdf5"
        beside("").unlink()
        monkeypatch.setenv("no_proxy", "d4rl.invalid")
        assert "cannot be reached" in refused("http://d4rl.invalid/data/")


def test_too_little_room_is_told_before_a_byte_comes(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(Path.home())
    with serving(content, Behaviour(cut=HALF), Behaviour(status=404), Behaviour()) as server:
        refused(server.url, patience=ONCE)
        few = len(content) - HALF - 1
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=few))
        message = refused(server.url, kind=DataError)
        assert message.startswith(f"{beside('').parent} has {few / 1e6:.1f} MB free, but {server.url}")
        assert message.endswith("make room, or name another folder in D4RL_DATASET_DIR")
        assert beside(".part").stat().st_size == HALF
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=few + 1))
        get(server.url)  # the rest fits
    assert_complete(content)


def test_a_disk_or_folder_that_cannot_be_written_is_told(content: bytes, folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))  # a disk that takes so much and no more
    try:
        with serving(content) as server:
            assert refused(server.url, kind=DataError) == f"{beside('')} cannot be used: File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    shutil.rmtree(folder.parent)
    folder.parent.write_text("a file")
    assert refused(NOWHERE, kind=DataError) == f"{folder} cannot be used: Not a directory"


def test_progress_on_plain_output(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_LINE_SECONDS", 0.05)
    with serving(content, Behaviour(pause=0.05)) as server:
        _, told = get(server.url)
    total = f"{len(content) / 1e6:.1f} MB"
    assert len(told) >= 4
    for line in told[2:]:
        done, rest = line.removeprefix("hopper_medium-v2.hdf5: ").split(f" MB of {total}, ")
        assert 0 < float(done) <= len(content) / 1e6 + 0.05
        assert 0.1 < float(rest.removesuffix(" MB/s")) < 100


def test_progress_on_a_terminal(content: bytes) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    with serving(content, Behaviour(stall=HALF, pause=0.02), Behaviour(pause=0.02)) as server:
        Downloader([server.url], patience=QUICK, console=console).download(TASK)
    assert f"/{len(content) / 1e3:.1f} kB" in screen.getvalue()
    assert "timed out; again in 0.01 s" in screen.getvalue()


def test_a_task_without_a_file_in_d4rl() -> None:
    with pytest.raises(DataError, match=r"D4RL has no file for it: `python -m erdp_core\.data collect"):
        Downloader([]).download(get_task("pointmaze-umaze"))
