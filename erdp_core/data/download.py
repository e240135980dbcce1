"""Getting D4RL's files: from several mirrors, going on after a break, checked before they count.

Beside a file NAME, while it comes, lie `NAME.part` (the bytes so far) and `NAME.part.json` (what they are the beginning
of); it gets into its place as `erdp_core.data.d4rl_files` tells.
"""

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
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from erdp_core.data.d4rl_files import (
    as_data_error,
    beside,
    file_path,
    layout_trouble,
    locked,
    put,
    recorded_sha256,
    sha256,
    verify,
)
from erdp_core.errors import DataError, MissingDataError, UserError
from erdp_core.tasks import Task

# D4RL's own host (https://arxiv.org/abs/2004.07219), and a copy of many of its files, all in one folder.
OFFICIAL = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"
HUGGING_FACE = "https://huggingface.co/datasets/imone/D4RL/resolve/main/"

_LINE_SECONDS = 5.0
_HEADWAY = 100_000
"""Bytes beyond all that came before, after which attempts are counted anew."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for mirrors, and how often to try again."""

    contact_seconds: float = 1.0
    """For a host's name to be resolved and its port to answer; all mirrors are asked at once."""
    stall_seconds: float = 30.0
    """Without a byte, before a connection counts as broken."""
    attempts: int = 4
    """At one address, one after another without headway."""
    pause_seconds: float = 1.0
    """Before the second attempt; doubled before each further one."""


class Downloaded(NamedTuple):
    """A file that is there, whole."""

    path: Path
    sha256: str
    url: str | None
    """Where it came from; None: it was there already."""


class Downloader:
    """Fetches D4RL's files, one after the other.

    mirrors: addresses of folders laid out as on D4RL's host, or with all files in one place; tried in this order.
        Unless given: those of `find_mirrors`.
    console: where progress is told: a bar on a terminal, plain lines anywhere else. Standard error unless given.

    Proxies are those of the environment, as urllib reads them. Raises UserError for an address that is not http(s).
    """

    def __init__(
        self, mirrors: Sequence[str] | None = None, *, patience: Patience | None = None, console: Console | None = None
    ) -> None:
        self._mirrors = find_mirrors() if mirrors is None else tuple(map(_checked_mirror, mirrors))
        self._patience = patience or Patience()
        self._console = console or Console(stderr=True)
        self._contacts: dict[str, _Contact] = {}

    def download(self, task: Task) -> Downloaded:
        """Put the task's file where D4RL's own cache has it (`d4rl_path`), and the record of its sha256 beside it.

        Raises MissingDataError where no mirror gives it (offline: after `contact_seconds`; the next call goes on from
        what came), DataError where D4RL has no file for the task, the one there is damaged or differs from its record,
        another process is at it, or this one may not write.
        """
        path = file_path(task)
        with as_data_error(path):
            if not path.exists():
                with locked(path):
                    # Another process may have finished it between the look above and the lock.
                    if not path.exists():
                        return self._fetch(task, path)
            return Downloaded(path, verify(task).sha256, None)

    def _fetch(self, task: Task, path: Path) -> Downloaded:
        """Get the file from the first address that gives it."""
        assert task.d4rl_file is not None
        part = beside(path, ".part")
        recorded_sha256(path)  # one that is damaged is told of before anything comes
        if not self._contacts:
            self._contacts = {mirror: _Contact(mirror, self._patience.contact_seconds) for mirror in self._mirrors}
        places = [(mirror, url) for mirror in self._mirrors for url in _urls(mirror, task.d4rl_file)]
        if begun := _part_version(part):
            places.sort(key=lambda place: place[1] != begun.url)  # where a part is from comes first
        troubles: list[str] = []
        with _Meter(path.name, self._console) as meter:
            for mirror, url in places:
                if (trouble := self._contacts[mirror].trouble()) is None:
                    if troubles:
                        meter.tell(f"not from {', '.join(troubles)}")
                    try:
                        found = self._try_repeatedly(mirror, url, part, meter)
                        _accept(path, found)
                        return Downloaded(path, found, url)
                    except _MirrorError as error:
                        trouble = str(error)
                troubles.append(f"{url} ({trouble})")
        kept = f" (the same command goes on from {_megabytes(part.stat().st_size)})" if part.exists() else ""
        raise MissingDataError(
            f"{path.name} is not on this machine and could not be downloaded from {', '.join(troubles)}{kept}: get it "
            f"elsewhere and put it at {path}, or run `python -m erdp_core.data import-d4rl {task.name} FILE`"
        )

    def _try_repeatedly(self, mirror: str, url: str, part: Path, meter: "_Meter") -> str:
        """All bytes into the part; returns their sha256. Raises _MirrorError, as all below."""
        attempts, pause, furthest = 0, self._patience.pause_seconds, 0
        while True:
            try:
                if trouble := self._contacts[mirror].trouble():
                    raise _BrokenError(trouble)
                return self._attempt(url, part, meter)
            except _BrokenError as error:
                attempts += 1
                reached = part.stat().st_size if part.exists() else 0
                if reached >= furthest + _HEADWAY:
                    attempts, pause, furthest = 1, self._patience.pause_seconds, reached
                if attempts >= self._patience.attempts:
                    raise _MirrorError(f"{error}, tried {attempts} times") from None
                meter.tell(f"{error}; again in {pause:g} s")
            time.sleep(pause)
            pause *= 2
            self._contacts[mirror] = _Contact(mirror, self._patience.contact_seconds)

    def _attempt(self, url: str, part: Path, meter: "_Meter") -> str:
        """The bytes that the part lacks, or all where it is of another version; returns the sha256 of all."""
        version = _part_version(part)
        done = part.stat().st_size if version and version.url == url else 0
        if version and version.size == done:
            return sha256(part)
        stream, done, version = _ask(url, done, version, self._patience.stall_seconds)
        with stream, part.open("r+b" if done else "w+b") as file:
            if done == 0:
                # Only now that the part is empty: it must never hold bytes of another version than this tells.
                beside(part, ".json").write_text(json.dumps(version))
            needed, free = (version.size or 0) - done, shutil.disk_usage(part.parent).free
            if needed > free:
                lacking = f"{part.parent} has {_megabytes(free)} free, but {url} needs {_megabytes(needed)} more"
                raise DataError(f"{lacking}: make room, or name another folder in D4RL_DATASET_DIR")
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


def find_mirrors(first: Sequence[str] = ()) -> tuple[str, ...]:
    """`first`, those of `$ERDP_D4RL_MIRRORS` (between spaces or commas), D4RL's host, and its copy at Hugging Face.

    Raises UserError for an address that is not http or https.
    """
    own = re.split(r"[\s,]+", os.environ.get("ERDP_D4RL_MIRRORS", ""))
    mirrors = (*first, *filter(None, own), OFFICIAL, HUGGING_FACE)
    return tuple(dict.fromkeys(map(_checked_mirror, mirrors)))


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
        web = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = web and "@" not in parts.netloc and not parts.query and not parts.fragment
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"mirror {mirror!r} is no http or https address of a folder, such as {OFFICIAL}")
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
        if error.code == 416 and start:
            return _ask(url, 0, None, stall)
        raise _MirrorError(f"it answered {error.code} {_reason(error)}") from None
    except (ValueError, http.client.InvalidURL):
        raise _MirrorError("it sends on to what is no address") from None
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"cannot be opened: {_reason(error)}") from None
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
    if not start:
        raise _MirrorError("it answered with a part of the file, asked for all of it")
    return _ask(url, 0, None, stall)


def _reason(error: Exception) -> str:
    """An exception in a few words."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return ((isinstance(inner, OSError) and inner.strerror) or str(inner) or type(inner).__name__).splitlines()[0]


def _megabytes(size: float | None) -> str:
    return "?" if size is None else f"{size / 1e6:.1f} MB"


def _part_version(part: Path) -> _Version | None:
    """What a part is the beginning of. None: there is no part, or nothing tells whether more is of the same version."""
    try:
        version = _Version(*json.loads(beside(part, ".json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # no part, or its maker was killed before it had told
        return None
    return version if version.validator and part.exists() else None


def _accept(path: Path, found: str) -> None:
    """Make a whole part, of that sha256, the file. One that is not what it should be is deleted."""
    part, recorded = beside(path, ".part"), recorded_sha256(path)
    trouble = layout_trouble(part)
    if trouble is None and recorded not in (None, found):
        trouble = f"of sha256 {found}, but {beside(path, '.sha256')} says {recorded}"
    if trouble:
        part.unlink()
        raise _MirrorError(f"what it sent is {trouble}")
    put(part, path, found)
    beside(part, ".json").unlink()
