"""Getting D4RL's files: from several mirrors, going on after a break, checked before they count, verified ever after.

Beside a file NAME, while it comes, lie `NAME.part` (the bytes so far), `NAME.part.json` (what they are the beginning
of) and `NAME.lock` (locked by the process that downloads; the empty file stays); afterwards `NAME.sha256`, as sha256sum
writes it, with which `verify` compares the file, and a later download its bytes.
"""

import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote, urlsplit

import h5py
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from erdp_core.data.load import d4rl_path
from erdp_core.errors import DataError, MissingDataError, UserError
from erdp_core.tasks import Task

# D4RL's own host (https://arxiv.org/abs/2004.07219), and a copy of many of its files, all in one folder.
OFFICIAL = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"
HUGGING_FACE = "https://huggingface.co/datasets/imone/D4RL/resolve/main/"

_LINE_SECONDS = 5.0


@dataclass(frozen=True)
class Patience:
    """How long to wait for mirrors, and how often to try again."""

    contact_seconds: float = 1.0
    """For a host's name to be resolved and its port to answer; all mirrors are asked at once."""
    stall_seconds: float = 30.0
    """Without a byte, before a connection counts as broken."""
    attempts: int = 4
    """At one address, the first included."""
    pause_seconds: float = 1.0
    """Before the second attempt; doubled before each further one."""


class Downloader:
    """Fetches D4RL's files, one after the other.

    mirrors: addresses (http, https or file) of folders laid out as on D4RL's host, or with all files in one place;
        tried in this order. Unless given: those of `find_mirrors`.
    console: where progress is told: a bar on a terminal, plain lines anywhere else. Standard error unless given.

    Proxies are those of the environment, as urllib reads them. Raises UserError for an address of another kind.
    """

    def __init__(
        self, mirrors: Sequence[str] | None = None, *, patience: Patience | None = None, console: Console | None = None
    ) -> None:
        self._mirrors = find_mirrors() if mirrors is None else tuple(map(_checked_mirror, mirrors))
        self._patience = patience or Patience()
        self._console = console or Console(stderr=True)
        self._contacts: dict[str, _Contact] = {}

    def download(self, task: Task) -> str | None:
        """Put the task's file where D4RL's own cache has it (`d4rl_path`), and the record of its sha256 beside it.

        Returns the address that it came from; None: it was there already. Raises MissingDataError where no mirror
        gives it (offline: after `contact_seconds`; the next call goes on from what came), DataError where D4RL has no
        file for the task, the one there is damaged or differs from its record, or this process may not write.
        """
        path = d4rl_path(task)
        if path is None or task.d4rl_file is None:
            raise DataError(f"{task.name} has no file in D4RL: run `python -m erdp_core.data collect {task.name}`")
        try:
            if path.exists():
                verify(path)
                return None
            path.parent.mkdir(parents=True, exist_ok=True)
            with _beside(path, ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another process may have finished it between the look above and the lock.
                return None if path.exists() else self._fetch(task.name, task.d4rl_file, path)
        except BlockingIOError:
            raise DataError(f"another process is downloading {path}: wait until it is done") from None
        except OSError as error:
            raise DataError(f"{error.filename or path} cannot be used: {error.strerror or error}") from None

    def _fetch(self, task: str, file: str, path: Path) -> str:
        """Get the file from the first address that gives it; returns that."""
        recorded, part = _recorded(path), _beside(path, ".part")
        if not self._contacts:
            self._contacts = {mirror: _Contact(mirror, self._patience.contact_seconds) for mirror in self._mirrors}
        places = [(mirror, url) for mirror in self._mirrors for url in _urls(mirror, file)]
        if begun := _part_version(part):
            places.sort(key=lambda place: place[1] != begun.url)  # where a part is from comes first
        troubles: list[str] = []
        with _Meter(path.name, self._console) as meter:
            for mirror, url in places:
                if (trouble := self._contacts[mirror].trouble()) is None:
                    if troubles:
                        meter.tell(f"not from {', '.join(troubles)}")
                    try:
                        _accept(path, self._try_repeatedly(mirror, url, part, meter), recorded)
                        return url
                    except _MirrorError as error:
                        trouble = str(error)
                troubles.append(f"{url} ({trouble})")
        kept = f" (the same command goes on from {_megabytes(part.stat().st_size)})" if part.exists() else ""
        raise MissingDataError(
            f"no data for {task}: {path.name} is not on this machine and could not be downloaded from "
            f"{', '.join(troubles)}{kept}: get it elsewhere and put it at {path}, or give a file in D4RL's layout "
            f"with --data {task}=FILE"
        )

    def _try_repeatedly(self, mirror: str, url: str, part: Path, meter: "_Meter") -> str:
        """All bytes into the part; returns their sha256. Raises _MirrorError, as all below."""
        attempts, pause = self._patience.attempts, self._patience.pause_seconds
        while True:
            try:
                if trouble := self._contacts[mirror].trouble():
                    raise _BrokenError(trouble)
                return self._attempt(url, part, meter)
            except _BrokenError as error:
                attempts -= 1
                if attempts <= 0:
                    raise _MirrorError(f"{error}, tried {self._patience.attempts} times") from None
                meter.tell(f"{error}; again in {pause:g} s")
            time.sleep(pause)
            pause *= 2
            self._contacts[mirror] = _Contact(mirror, self._patience.contact_seconds)

    def _attempt(self, url: str, part: Path, meter: "_Meter") -> str:
        """The bytes that the part lacks, or all where it is of another version; returns the sha256 of all."""
        version = _part_version(part)
        done = part.stat().st_size if version and version.url == url else 0
        if version and version.size == done:
            return _sha256(part)
        stream, done, version = _ask(url, done, version, self._patience.stall_seconds)
        with stream, part.open("r+b" if done else "w+b") as file:
            if done == 0:
                # Only now that the part is empty: it must never hold bytes of another version than this tells.
                _beside(part, ".json").write_text(json.dumps(version))
            needed, free = (version.size or 0) - done, shutil.disk_usage(part.parent).free
            if needed > free:
                told = f"{part.parent} has {_megabytes(free)} free, but {url} needs {_megabytes(needed)} more"
                raise DataError(f"{told}: make room, or name another folder in D4RL_DATASET_DIR")
            digest = hashlib.file_digest(file, "sha256")  # of the bytes already there; the next go after them
            meter.start_at(url, done, version.size)
            while True:
                try:
                    chunk = stream.read1(1 << 20)
                except (OSError, http.client.HTTPException) as error:
                    raise _BrokenError(f"broke off at {_megabytes(done)}: {_reason(error)}") from None
                if not chunk:
                    break
                file.write(chunk)
                file.flush()
                digest.update(chunk)
                done += len(chunk)
                meter.show(done)
        if version.size not in (None, done):
            raise _BrokenError(f"broke off at {done} of {version.size} bytes")
        return digest.hexdigest()


def find_mirrors() -> tuple[str, ...]:
    """Those of `$ERDP_D4RL_MIRRORS` (separated by spaces or commas), D4RL's host, and its copy at Hugging Face.

    Raises UserError for an address that is not http, https or file.
    """
    own = re.split(r"[\s,]+", os.environ.get("ERDP_D4RL_MIRRORS", ""))
    return tuple(dict.fromkeys(_checked_mirror(mirror) for mirror in (*filter(None, own), OFFICIAL, HUGGING_FACE)))


def verify(path: Path, *, record: bool = False) -> Literal["ok", "recorded", "no record"]:
    """Compare a file with its record, `PATH.sha256`; where there is none, `record` writes it.

    Raises MissingDataError where the file is not there, DataError where it differs or either is damaged.
    """
    if not path.is_file():
        raise MissingDataError(f"no file {path}: `python -m erdp_core.data download TASK` gets it")
    recorded = _recorded(path)
    if recorded is None:
        if trouble := _layout_trouble(path):
            raise DataError(f"{path} is {trouble}: delete it and download it again")
        if not record:
            return "no record"
        _write_record(path, _sha256(path))
        return "recorded"
    if _sha256(path) != recorded:
        raise DataError(f"{path} changed since it was downloaded: delete it and download it again")
    return "ok"


class _MirrorError(Exception):
    """Why an address does not give the file: the next one may."""


class _BrokenError(_MirrorError):
    """A connection that was lost or stalled: another attempt may do better."""


class _Version(NamedTuple):
    """What a part is the beginning of: its ETag or Last-Modified, and the size announced, in bytes, if any."""

    url: str
    validator: str | None
    size: int | None


class _Contact(threading.Thread):
    """A contact with a mirror's host, or the proxy before it, tried for so many seconds.

    A thread, which dies with the process: resolving a name can hang for long and cannot be interrupted.
    """

    def __init__(self, mirror: str, seconds: float) -> None:
        super().__init__(daemon=True)
        self._mirror, self._seconds, self._deadline = mirror, seconds, time.monotonic() + seconds
        self._trouble: str | None = f"cannot be reached: no answer within {seconds:g} s"
        self.start()

    def trouble(self) -> str | None:
        """Why the host cannot be reached; None: it can."""
        self.join(max(0.0, self._deadline - time.monotonic()))
        return self._trouble

    def run(self) -> None:
        parts = urlsplit(self._mirror)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(parts.netloc):
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        try:
            if parts.scheme != "file":
                address = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
                # Half the time for each of a host's numbers, so that a dead IPv6 leaves some for IPv4.
                socket.create_connection(address, self._seconds / 2).close()
            self._trouble = None
        except (OSError, ValueError) as error:
            self._trouble = f"cannot be reached: {_reason(error)}"


class _Meter(Progress):
    """How far a file is: a bar on a terminal, a line every few seconds anywhere else."""

    def __init__(self, name: str, console: Console) -> None:
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        plain = not console.is_terminal or console.is_dumb_terminal
        super().__init__(TextColumn("{task.description}"), *columns, console=console, disable=plain)
        self._task, self._line_at = self.add_task(name, total=None), 0.0

    def start_at(self, url: str, done: int, size: int | None) -> None:
        """Bytes begin to come, from `done` of `size` on."""
        self.reset(self._task, completed=done, total=size)
        self._line_at = time.monotonic()
        self.tell(f"{f'going on at {_megabytes(done)} of' if done else 'getting'} {_megabytes(size)} from {url}")

    def show(self, done: int) -> None:
        """So many bytes are here."""
        self.update(self._task, completed=done)
        if self.disable and time.monotonic() >= self._line_at + _LINE_SECONDS:
            self._line_at = time.monotonic()
            self.tell(f"{_megabytes(done)} of {_megabytes(self.tasks[0].total)}, {_megabytes(self.tasks[0].speed)}/s")

    def tell(self, text: str) -> None:
        """A line of its own."""
        self.console.print(f"{self.tasks[0].description}: {text}", markup=False, highlight=False, soft_wrap=True)


def _checked_mirror(mirror: str) -> str:
    """The address, with a slash at its end."""
    mirror = quote(mirror, safe="%:/?#[]@!$&'()*+,;=~")
    try:
        parts = urlsplit(mirror)
        web = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        valid = web or (parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"))
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"mirror {mirror!r} is no http, https or file address such as {OFFICIAL} or file:///data/d4rl/")
    return mirror.rstrip("/") + "/"


def _urls(mirror: str, file: str) -> tuple[str, ...]:
    """Where a mirror may have a file: as D4RL's host lays them out, or all in one place."""
    nested, flat = mirror + file, mirror + file.rpartition("/")[2]
    return {OFFICIAL: (nested,), HUGGING_FACE: (flat,)}.get(mirror, (nested, flat))


def _ask(url: str, start: int, part: _Version | None, stall: float) -> tuple[http.client.HTTPResponse, int, _Version]:
    """A stream, where in the file it begins, and what it is of: from `start` on where that is the part's, else all."""
    request = urllib.request.Request(url, headers={"User-Agent": "erdp-bench"})
    if part is not None and start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", part.validator or "")
    try:
        response = urllib.request.build_opener().open(request, timeout=stall)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            return _ask(url, 0, None, stall)
        raise _MirrorError(f"it answered {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise (_MirrorError if url.startswith("file:") else _BrokenError)(
            f"cannot be opened: {_reason(error)}"
        ) from None
    etag, length = response.headers.get("ETag"), response.headers.get("Content-Length")
    # A weak ETag does not promise the same bytes.
    validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    if response.status != 206:
        return response, 0, _Version(url, validator, int(length) if length and length.isdigit() else None)
    # Of the part's version it is only if it says so: some servers heed Range but not If-Range.
    sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if part and sent and sent.groups() == (str(start), str(part.size)) and validator in (None, part.validator):
        return response, start, part
    response.close()
    return _ask(url, 0, None, stall)


def _reason(error: Exception) -> str:
    """An exception in a few words."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return ((isinstance(inner, OSError) and inner.strerror) or str(inner) or type(inner).__name__).splitlines()[0]


def _megabytes(size: float | None) -> str:
    return "?" if size is None else f"{size / 1e6:.1f} MB"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _part_version(part: Path) -> _Version | None:
    """What a part is the beginning of. None: there is no part, or nothing tells whether more is of the same version."""
    try:
        version = _Version(*json.loads(_beside(part, ".json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # no part, or its maker was killed before it had told
        return None
    return version if version.validator and part.exists() else None


def _accept(path: Path, sha256: str, recorded: str | None) -> None:
    """Make a whole part the file, and record its sha256. A part that is not what it should be is deleted."""
    part = _beside(path, ".part")
    trouble = _layout_trouble(part)
    if trouble is None and recorded not in (None, sha256):
        trouble = f"of sha256 {sha256}, but {_beside(path, '.sha256')} says {recorded}"
    if trouble:
        part.unlink()
        raise _MirrorError(f"what it sent is {trouble}")
    with part.open("rb") as file:
        os.fsync(file.fileno())
    # The record first: whenever this process is killed, a file that is there has one.
    _write_record(path, sha256)
    part.replace(path)
    _beside(part, ".json").unlink()


def _layout_trouble(path: Path) -> str | None:
    """Why a file is not one of D4RL's: it does not open, or has not its keys, of one length. Reads last rows only."""
    try:
        with h5py.File(path, "r") as file:
            columns = [file[key] for key in ("observations", "actions", "rewards", "terminals")]
            rows = {len(column[-1:]) and len(column) for column in columns}
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        return f"not in D4RL's layout, or cut short ({_reason(error)})"
    return None if len(rows) == 1 else f"not in D4RL's layout (its keys have {sorted(rows)} rows)"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recorded(path: Path) -> str | None:
    """The sha256 on record; None: there is no record."""
    record = _beside(path, ".sha256")
    if not record.exists():
        return None
    found = re.match(r"[0-9a-fA-F]{64}(?=\s|$)", record.read_text(errors="replace"))
    if found is None:
        raise DataError(f"{record} is not as sha256sum writes it: delete it")
    return found[0].lower()


def _write_record(path: Path, sha256: str) -> None:
    fresh = _beside(path, ".sha256.part")
    fresh.write_text(f"{sha256}  {path.name}\n")
    fresh.replace(_beside(path, ".sha256"))
