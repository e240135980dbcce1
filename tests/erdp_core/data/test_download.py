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
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import h5py
import numpy as np
import pytest
from rich.console import Console

from erdp_core.data import download as download_module
from erdp_core.data.download import HUGGING_FACE, OFFICIAL, Downloader, Patience, find_mirrors, verify
from erdp_core.data.load import d4rl_path
from erdp_core.errors import DataError, MissingDataError, UserError
from erdp_core.tasks import get_task
from tests.erdp_core.data.breaking_server import Behaviour, serving

TASK = get_task("hopper-medium-v2")
QUICK = Patience(contact_seconds=1.0, stall_seconds=0.3, attempts=3, pause_seconds=0.01)
HALF = 300_000
PAGE = b"<!DOCTYPE html><html><body>Please sign in</body></html>" * 200


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """D4RL's cache folder, not there yet; no proxy, no mirrors of the machine's."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("ERDP_D4RL_MIRRORS", raising=False)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl" / "datasets"))
    return tmp_path / "d4rl" / "datasets"


@pytest.fixture(autouse=True)
def no_open_connections() -> Iterator[None]:
    """No test leaves a connection open: the count of descriptors is what it was."""
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    yield
    deadline = time.monotonic() + 2
    while before and len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not before or len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture(scope="module")
def content() -> bytes:
    made = hopper(0)
    assert len(made) > 1.5 * HALF
    return made


def get(*mirrors: str, patience: Patience = QUICK) -> Outcome:
    """Download the task's file; what was told, line by line."""
    told = io.StringIO()
    url = Downloader(mirrors, patience=patience, console=Console(file=told)).download(TASK)
    return Outcome(url, told.getvalue().splitlines())


def refused(*mirrors: str, kind: type[DataError] = MissingDataError, patience: Patience = QUICK) -> str:
    """The one line of the error that a download ends with."""
    with pytest.raises(kind) as raised:
        get(*mirrors, patience=patience)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def target() -> Path:
    path = d4rl_path(TASK)
    assert path is not None
    return path


def beside(suffix: str) -> Path:
    return target().with_name(target().name + suffix)


def assert_complete(content: bytes) -> None:
    """The file is there, whole, with its record, and nothing is left of getting it but the empty lock file."""
    assert target().read_bytes() == content
    assert beside(".sha256").read_text() == f"{hashlib.sha256(content).hexdigest()}  {target().name}\n"
    assert sorted(path.name for path in target().parent.iterdir()) == sorted(
        [target().name, beside(".sha256").name, beside(".lock").name]
    )
    assert verify(target()) == "ok"


def test_a_whole_download(content: bytes) -> None:
    with serving(content) as server:
        url, told = get(server.url)
        assert [request.path for request in server.requests] == ["/datasets/gym_mujoco_v2/hopper_medium-v2.hdf5"]
    assert url == f"{server.url}gym_mujoco_v2/hopper_medium-v2.hdf5"
    assert told == [f"hopper_medium-v2.hdf5: getting {len(content) / 1e6:.1f} MB from {url}"]
    assert_complete(content)
    if sha256sum := shutil.which("sha256sum"):
        checked = subprocess.run([sha256sum, "-c", beside(".sha256").name], cwd=target().parent, capture_output=True)
        assert checked.returncode == 0


def test_a_file_that_is_there_is_not_fetched_again(content: bytes) -> None:
    with serving(content) as server:
        get(server.url)
        assert get(server.url) == (None, [])
        assert len(server.requests) == 1
    assert get(server.url) == (None, [])  # nor needs it a mirror


def test_a_file_of_the_users_own_is_left_as_it_is(content: bytes) -> None:
    target().parent.mkdir(parents=True)
    target().write_bytes(content)
    assert get(f"http://127.0.0.1:{free_port()}/") == (None, [])
    assert not beside(".sha256").exists()
    target().write_bytes(content[:-100])
    assert "is not in D4RL's layout, or cut short" in refused("file:///nowhere", kind=DataError)
    assert target().read_bytes() == content[:-100]


@pytest.mark.parametrize("end", [Behaviour(cut=HALF), Behaviour(stall=HALF)], ids=["closed", "stalled"])
@pytest.mark.parametrize("stamp", ["etag", "modified"])
def test_a_broken_download_goes_on_where_it_was(content: bytes, end: Behaviour, stamp: str) -> None:
    date = "Wed, 21 Oct 2020 07:28:00 GMT"
    known = {"etag": '"a"'} if stamp == "etag" else {"etag": None, "modified": date}
    first = Behaviour(cut=end.cut, stall=end.stall, **known)
    with serving(content, first, Behaviour(**known)) as server:
        _, told = get(server.url)
        assert server.ranges == [None, f"bytes={HALF}-"]
        assert server.requests[1].if_range == (date if stamp == "modified" else '"a"')
        assert [request.sent for request in server.requests] == [HALF, len(content) - HALF]
    assert any("broke off" in line and "again in 0.01 s" in line for line in told)
    assert any("timed out" in line for line in told) == (end.stall is not None)
    assert f"going on at 0.3 MB of {len(content) / 1e6:.1f} MB" in told[-1]
    assert_complete(content)


def test_the_next_call_goes_on_too(content: bytes) -> None:
    with serving(content, Behaviour(cut=HALF), Behaviour(status=503), Behaviour()) as server:
        message = refused(server.url.rstrip("/"), patience=Patience(attempts=1))
        assert f"broke off at {HALF} of {len(content)} bytes" in message
        assert "(the same command goes on from 0.3 MB)" in message
        assert not target().exists()
        get(server.url)
        assert server.ranges[-1] == f"bytes={HALF}-"
    assert_complete(content)


def test_where_a_part_is_from_comes_first(content: bytes) -> None:
    with serving(content, Behaviour(status=404)) as first, serving(content, Behaviour(cut=HALF)) as second:
        once = Patience(attempts=1)
        refused(first.url, second.url, patience=once)
        second.behaviours = [Behaviour()]
        get(first.url, second.url, patience=once)
        assert len(first.requests) == 2  # of the first call
        assert second.ranges[-1] == f"bytes={HALF}-"
    assert_complete(content)


def test_bytes_of_another_address_are_not_mixed_in(content: bytes) -> None:
    with serving(hopper(1), Behaviour(cut=HALF)) as other, serving(content) as server:
        get(other.url, server.url, patience=Patience(attempts=1))
        assert server.ranges == [None]
    assert_complete(content)


@pytest.mark.parametrize("same_size", [True, False])
@pytest.mark.parametrize(
    "second",
    [Behaviour(heeds_range=False), Behaviour(etag='"version 2"'), Behaviour(etag='"version 2"', heeds_if_range=False)],
    ids=["Range ignored", "changed", "changed, If-Range ignored"],
)
def test_what_cannot_be_gone_on_with_starts_anew(content: bytes, second: Behaviour, same_size: bool) -> None:
    old = content[::-1] if same_size else hopper(1, rows=8000)
    with serving(content, Behaviour(content=old, cut=HALF), second) as server:
        get(server.url)
        assert server.ranges[:2] == [None, f"bytes={HALF}-"]
        assert server.requests[-1].sent == len(content)
        assert len({request.path for request in server.requests}) == 1
    assert_complete(content)


def test_another_size_is_another_version_whatever_else_is_said(content: bytes) -> None:
    silent = Behaviour(etag=None, heeds_if_range=False)
    with serving(content, Behaviour(content=hopper(1, rows=8000), cut=HALF), silent) as server:
        get(server.url)
        assert server.ranges == [None, f"bytes={HALF}-", None]
    assert_complete(content)


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_promise_of_the_same_bytes_it_starts_anew(content: bytes, etag: str | None) -> None:
    with serving(content, Behaviour(etag=etag, cut=HALF), Behaviour(etag=etag)) as server:
        get(server.url)
        assert server.ranges == [None, None]
    assert_complete(content)


def test_a_file_that_became_shorter_starts_anew(content: bytes) -> None:
    longer = hopper(1, rows=20_000)
    cut = len(content) + 1000
    assert cut < len(longer)
    with serving(content, Behaviour(content=longer, cut=cut), Behaviour(heeds_if_range=False)) as server:
        get(server.url)
        assert server.ranges == [None, f"bytes={cut}-", None]  # the second was answered 416
        assert len({request.path for request in server.requests}) == 1
    assert_complete(content)


@pytest.mark.parametrize("notes", ["", "{", '["url"]', "[1, 2, 3]"])
def test_a_part_that_nothing_is_known_of_starts_anew(content: bytes, notes: str) -> None:
    target().parent.mkdir(parents=True)
    beside(".part").write_bytes(b"remains" * 1000)
    if notes:
        beside(".part.json").write_text(notes)
    with serving(content) as server:
        get(server.url)
        assert server.ranges == [None]
    assert_complete(content)


def test_a_whole_part_is_not_asked_for_again(content: bytes) -> None:
    with serving(content, Behaviour(cut=HALF), Behaviour(status=404)) as server:
        refused(server.url, patience=Patience(attempts=1))
        beside(".part").write_bytes(content)  # as if killed between the last byte and the renaming
        get(server.url)
        assert len(server.requests) == 2  # both of the first call, one for each place a mirror may have it at
    assert_complete(content)


def test_one_that_goes_on_breaking_is_given_up(content: bytes) -> None:
    with serving(content, Behaviour(cut=1000)) as server, serving(content) as second:
        url, told = get(server.url, second.url)
        assert url is not None
        assert url.startswith(second.url)
        assert server.ranges[:3] == [None, "bytes=1000-", "bytes=2000-"]
    assert any("tried 3 times" in line for line in told)
    assert_complete(content)


def test_closing_early_without_a_length_is_noticed(content: bytes) -> None:
    short = Behaviour(announces=False, cut=HALF)
    with serving(content, short) as server:
        message = refused(server.url)
    assert f"{server.url}gym_mujoco_v2/hopper_medium-v2.hdf5 (what it sent is not in D4RL's layout" in message
    assert not target().exists()
    assert not beside(".part").exists()
    with serving(content, Behaviour(announces=False)) as server:
        get(server.url)
    assert_complete(content)


WRONG = {
    "a page": PAGE,
    "nothing": b"",
    "a truncated file": hopper(0)[:-5000],
    "no rewards": hopper(0, rewards=np.zeros(0)),
    "a damaged file": damaged_end(hopper(0)),
    "an HDF5 file of another kind": hopper(0, rows=3).replace(b"rewards", b"rewordz"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bytes_leave_no_file(name: str, content: bytes) -> None:
    with serving(WRONG[name]) as server, serving(content) as second:
        message = refused(server.url)
        assert f"{server.url}gym_mujoco_v2/hopper_medium-v2.hdf5 (what it sent is not in D4RL's layout" in message
        assert [path.name for path in target().parent.iterdir() if path.suffix not in (".lock", ".json")] == []
        get(server.url, second.url)
    assert_complete(content)


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_the_next_mirror_helps(content: bytes, status: int) -> None:
    with serving(content, Behaviour(status=status)) as server, serving(content) as second:
        url, told = get(server.url, second.url)
        assert url == f"{second.url}gym_mujoco_v2/hopper_medium-v2.hdf5"
        assert len(server.requests) == 2  # both places, once each
        assert f"it answered {status} " in told[0]
        target().unlink()
        message = refused(server.url)
    assert f"{server.url}hopper_medium-v2.hdf5 (it answered {status} " in message
    assert str(target()) in message


def test_a_mirror_may_have_all_files_in_one_place(content: bytes) -> None:
    with serving(content, Behaviour(status=404), Behaviour()) as server:
        url, _ = get(server.url)
    assert url == f"{server.url}hopper_medium-v2.hdf5"
    assert_complete(content)


def test_an_address_may_have_any_letters(content: bytes) -> None:
    with serving(content) as server:
        url, _ = get(f"{server.url}donn\u00e9es d4rl%2C v2/")
        assert server.requests[0].path == "/datasets/donn%C3%A9es%20d4rl%2C%20v2/gym_mujoco_v2/hopper_medium-v2.hdf5"
        assert url is not None
        assert url.endswith(server.requests[0].path)
    assert_complete(content)


def test_a_folder_can_be_a_mirror(content: bytes, tmp_path: Path) -> None:
    mirror = tmp_path / "the group's data"
    address = f"file://{quote(str(mirror))}"
    assert "No such file" in refused(address)
    mirror.mkdir()
    (mirror / target().name).write_bytes(content)
    url, _ = get(address)
    assert url == f"{address}/{target().name}"
    assert_complete(content)


def test_a_recorded_sha256_must_come_again(content: bytes) -> None:
    with serving(hopper(1)) as other, serving(content) as server:
        get(server.url)
        target().unlink()
        message = refused(other.url)
        assert f"what it sent is of sha256 {hashlib.sha256(hopper(1)).hexdigest()}, but {beside('.sha256')}" in message
        assert not target().exists()
        get(other.url, server.url)
    assert_complete(content)


def test_verify(content: bytes) -> None:
    with pytest.raises(MissingDataError, match="no file"):
        verify(target())
    with serving(content) as server:
        get(server.url)
    assert verify(target()) == "ok"
    damaged = bytearray(content)
    damaged[HALF] ^= 1
    target().write_bytes(damaged)
    with pytest.raises(DataError, match="changed since it was downloaded: delete it and download it again"):
        verify(target())
    assert "changed since it was downloaded" in refused(server.url, kind=DataError)
    beside(".sha256").write_text("nonsense")
    with pytest.raises(DataError, match="is not as sha256sum writes it"):
        verify(target())


def test_verify_records_only_when_asked(content: bytes) -> None:
    target().parent.mkdir(parents=True)
    target().write_bytes(content)
    assert verify(target()) == "no record"
    assert not beside(".sha256").exists()
    assert verify(target(), record=True) == "recorded"
    assert beside(".sha256").read_text() == f"{hashlib.sha256(content).hexdigest()}  {target().name}\n"
    assert verify(target(), record=True) == "ok"
    beside(".sha256").unlink()
    target().write_bytes(PAGE)
    with pytest.raises(DataError, match="not in D4RL's layout"):
        verify(target(), record=True)
    assert not beside(".sha256").exists()


def wait_for_bytes(count: int) -> None:
    deadline = time.monotonic() + 30
    while not (beside(".part").exists() and beside(".part").stat().st_size >= count):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_process_goes_on_after_a_kill_and_two_do_not_meet(content: bytes) -> None:
    with serving(content, Behaviour(stall=HALF), Behaviour()) as server:
        process = start(server.url)
        try:
            wait_for_bytes(HALF)
            message = refused(server.url, kind=DataError)
            assert message == f"another process is downloading {target()}: wait until it is done"
            assert len(server.requests) == 1
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert not target().exists()
        get(server.url)
        assert server.ranges == [None, f"bytes={HALF}-"]
        assert server.requests[1].sent == len(content) - HALF
    assert_complete(content)


def test_two_processes_at_once_leave_one_whole_file(content: bytes) -> None:
    with serving(content, Behaviour(pause=0.05)) as server:
        processes = [start(server.url) for _ in range(2)]
        lines = [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes]
    assert_complete(content)
    assert sorted(line.startswith(server.url) for line in lines)[-1]
    for line in lines:
        assert line.startswith((server.url, "error: another process is downloading")) or line == "None"


def offline_message(*mirrors: str) -> str:
    """What is said with the ordinary patience; asserts that it is said within 2 seconds."""
    began = time.monotonic()
    message = refused(*mirrors, patience=Patience())
    assert time.monotonic() - began < 2.0
    return message


def test_offline_it_says_what_is_missing_where_to_get_it_and_where_to_put_it() -> None:
    message = offline_message(f"http://127.0.0.1:{free_port()}/a/", "https://d4rl.invalid/b/")
    assert message.startswith("no data for hopper-medium-v2: hopper_medium-v2.hdf5 is not on this machine")
    assert "/a/gym_mujoco_v2/hopper_medium-v2.hdf5 (cannot be reached: Connection refused)" in message
    assert "https://d4rl.invalid/b/gym_mujoco_v2/hopper_medium-v2.hdf5 (cannot be reached: " in message
    assert f"put it at {target()}, " in message
    assert message.endswith("--data hopper-medium-v2=FILE")
    assert not target().exists()


def test_offline_with_the_usual_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, port: int, *rest: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    message = offline_message(*find_mirrors())
    assert f"{OFFICIAL}gym_mujoco_v2/hopper_medium-v2.hdf5 (cannot be reached: Name or service not known)" in message
    assert f"{HUGGING_FACE}hopper_medium-v2.hdf5 (cannot be reached: Name or service not known)" in message


def test_a_name_server_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    """Neither the message nor the end of the process."""
    hanging = "import socket, time\nsocket.getaddrinfo = lambda *arguments, **more: time.sleep(60)\n"
    timed = PROGRAM.replace('print(f"error', 'print(time.monotonic() - began)\n    print(f"error')
    timed = timed.replace("try:", "began = time.monotonic()\ntry:")
    command = [sys.executable, "-c", hanging + timed, "http://a.example/", "http://b.example/", "https://c.example/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=True)
    ready, seconds, message = done.stdout.splitlines()
    assert ready == "ready"
    assert float(seconds) < 2.0
    assert message.count("cannot be reached: no answer within 1 s") == 6  # three mirrors, two places each


def test_a_host_that_does_not_answer_is_told_in_time() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        fillers = [socket.socket() for _ in range(4)]  # from here on the kernel answers no one at this port
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        message = offline_message(f"http://127.0.0.1:{address[1]}/")
        for filler in fillers:
            filler.close()
    assert "cannot be reached: timed out" in message


def test_a_network_that_goes_away_halfway_is_told_soon(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    once = Patience(contact_seconds=0.2, stall_seconds=0.2, attempts=3, pause_seconds=0.01)
    with serving(content, Behaviour(stall=HALF)) as server:
        resolve = socket.getaddrinfo

        def hang_after_the_break(*arguments: Any, **more: Any) -> Any:
            if beside(".part").exists():
                time.sleep(10)
            return resolve(*arguments, **more)

        monkeypatch.setattr(socket, "getaddrinfo", hang_after_the_break)
        began = time.monotonic()
        message = refused(f"{server.url}", patience=once)
        assert time.monotonic() - began < 2.0
    assert "no answer within 0.2 s, tried 3 times" in message
    assert "(the same command goes on from 0.3 MB)" in message


def test_twenty_tasks_offline_wait_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: time.sleep(5))
    downloader = Downloader(["http://a.example/"], patience=Patience(contact_seconds=0.3))
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(MissingDataError):
            downloader.download(TASK)
    assert time.monotonic() - began < 1.0


def test_proxies_of_the_environment_are_used(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(content) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        url, _ = get("http://d4rl.invalid/data/")
        assert [request.path for request in proxy.requests] == [url]
        target().unlink()
        monkeypatch.setenv("no_proxy", "d4rl.invalid")
        assert "cannot be reached" in refused("http://d4rl.invalid/data/")
    assert url == "http://d4rl.invalid/data/gym_mujoco_v2/hopper_medium-v2.hdf5"


def test_too_little_room_is_told_before_a_byte_comes(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(Path.home())
    with serving(content, Behaviour(cut=HALF), Behaviour(status=404), Behaviour()) as server:
        refused(server.url, patience=Patience(attempts=1))
        few = len(content) - HALF - 1
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=few))
        message = refused(server.url, kind=DataError)
        assert message.startswith(f"{target().parent} has {few / 1e6:.1f} MB free, but {server.url}")
        assert "make room, or name another folder in D4RL_DATASET_DIR" in message
        assert beside(".part").stat().st_size == HALF
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=few + 1))
        get(server.url)  # the rest fits
    assert_complete(content)


def test_a_disk_that_fills_up_all_the_same_is_told(content: bytes) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))  # a disk that takes so much and no more
    try:
        with serving(content) as server:
            message = refused(server.url, kind=DataError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message == f"{target()} cannot be used: File too large"


def test_a_folder_that_cannot_be_made_is_told(folder: Path) -> None:
    folder.parent.write_text("a file")
    message = refused(f"http://127.0.0.1:{free_port()}/", kind=DataError)
    assert message == f"{folder} cannot be used: Not a directory"


def test_progress_on_plain_output(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_LINE_SECONDS", 0.05)
    with serving(content, Behaviour(pause=0.05)) as server:
        _, told = get(server.url)
    total = f"{len(content) / 1e6:.1f} MB"
    assert len(told) >= 4
    for line in told[2:]:
        done, rest = line.removeprefix("hopper_medium-v2.hdf5: ").split(" MB of ")
        assert 0 < float(done) <= len(content) / 1e6 + 0.05
        assert rest.startswith(f"{total}, ")
        assert 0.1 < float(rest.removeprefix(f"{total}, ").removesuffix(" MB/s")) < 100


def test_progress_on_a_terminal(content: bytes) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    with serving(content, Behaviour(stall=HALF, pause=0.02), Behaviour(pause=0.02)) as server:
        Downloader([server.url], patience=QUICK, console=console).download(TASK)
    shown = screen.getvalue()
    assert "hopper_medium-v2.hdf5 " in shown
    assert f"/{len(content) / 1e3:.1f} kB" in shown
    assert "timed out; again in 0.01 s" in shown


def test_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_mirrors() == (OFFICIAL, HUGGING_FACE)
    monkeypatch.setenv("ERDP_D4RL_MIRRORS", f" http://a.example/x,file:///data\n{OFFICIAL.rstrip('/')} ")
    assert find_mirrors() == ("http://a.example/x/", "file:///data/", OFFICIAL, HUGGING_FACE)


@pytest.mark.parametrize(
    "mirror",
    ["ftp://a.example/", "a.example/x", "/data", "http://", "http://a:port/", "http://a:b@c/", "file://host/x", "[::"],
)
def test_only_web_and_file_addresses_are_mirrors(mirror: str) -> None:
    with pytest.raises(UserError, match="is no http, https or file address") as raised:
        Downloader([mirror])
    assert repr(mirror) in str(raised.value)


def test_a_task_without_a_file_in_d4rl() -> None:
    with pytest.raises(DataError, match="collect pointmaze-umaze"):
        Downloader([]).download(get_task("pointmaze-umaze"))
