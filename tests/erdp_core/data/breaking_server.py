"""For the tests of downloads: a web server that misbehaves as told, files to serve, a client in its own process."""

import io
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np

# A client in a process of its own; its arguments are mirrors.
PROGRAM = """
import sys, time
from erdp_core.data.download import Downloader, Patience
from erdp_core.errors import DataError
from erdp_core.tasks import get_task
print("ready", flush=True)
try:
    print(Downloader(sys.argv[1:]).download(get_task("hopper-medium-v2")).url)
except DataError as error:
    print(f"error: {error}")
"""


@dataclass(frozen=True)
class Behaviour:
    """How one request is answered."""

    content: bytes | None = None
    """In place of the server's."""
    status: int = 200
    """Other than 200: the answer, without the content."""
    sent_to: str | None = None
    """Another address, in place of the content."""
    etag: str | None = '"version 1"'
    modified: str | None = None
    """Last-Modified."""
    cut: int | None = None
    """Bytes after which the connection is closed."""
    stall: int | None = None
    """Bytes after which nothing comes any more until the server's `released` is set."""
    announces: bool = True
    """Whether there is a Content-Length."""
    heeds_range: bool = True
    heeds_if_range: bool = True
    always_partial: bool = False
    """Whether even the whole content is called a part of it."""
    pause: float = 0.0
    """Seconds between blocks of 64 kB."""


@dataclass
class Request:
    """What a client asked for, and what it was sent."""

    path: str
    range: str | None
    if_range: str | None
    sent: int = 0


class BreakingServer(ThreadingHTTPServer):
    """Serves `content` at every path; answers as `behaviours` say, the last one again and again."""

    daemon_threads = True

    def __init__(self, content: bytes, *behaviours: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.behaviours = list(behaviours or [Behaviour()])
        self.requests: list[Request] = []
        self.released = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/datasets/"

    @property
    def ranges(self) -> list[str | None]:
        """The Range of each request so far."""
        return [request.range for request in self.requests]


@contextmanager
def serving(content: bytes, *behaviours: Behaviour) -> Iterator[BreakingServer]:
    """A server at work."""
    server = BreakingServer(content, *behaviours)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def deaf_address() -> Iterator[str]:
    """Where a host is, but does not answer: the port's queue is full."""
    with ExitStack() as sockets:
        deaf, *fillers = (sockets.enter_context(socket.socket()) for _ in range(5))
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: BreakingServer

    def do_GET(self) -> None:
        request = Request(self.path, self.headers["Range"], self.headers["If-Range"])
        with self.server.lock:
            self.server.requests.append(request)
            behaviours = self.server.behaviours
            behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        if behaviour.sent_to is not None:
            self.send_response(302)
            self.send_header("Location", behaviour.sent_to)
            self.end_headers()
            return
        if behaviour.status != 200:
            self.send_error(behaviour.status)
            return
        content = self.server.content if behaviour.content is None else behaviour.content
        start = self._head(request, behaviour, content)
        if start is not None:
            try:
                self._body(request, behaviour, content[start:])
            except (BrokenPipeError, ConnectionResetError):  # the client has gone, as some tests want
                return

    def _head(self, request: Request, behaviour: Behaviour, content: bytes) -> int | None:
        """Send the headers. Returns where in the content the answer begins; None: there is nothing there."""
        validator = behaviour.etag or behaviour.modified
        start = 0
        if behaviour.heeds_range and request.range and not (behaviour.heeds_if_range and request.if_range != validator):
            start = int(request.range.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(content):
            self.send_error(416)
            return None
        partial = start > 0 or behaviour.always_partial
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if behaviour.announces:
            self.send_header("Content-Length", str(len(content) - start))
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        if behaviour.modified:
            self.send_header("Last-Modified", behaviour.modified)
        self.end_headers()
        return start

    def _body(self, request: Request, behaviour: Behaviour, content: bytes) -> None:
        end = len(content) if behaviour.cut is None else behaviour.cut
        while request.sent < end:
            size = min(1 << 16, end - request.sent)
            if behaviour.stall is not None:
                if request.sent >= behaviour.stall:
                    self.server.released.wait(60)
                    return
                size = min(size, behaviour.stall - request.sent)
            self.wfile.write(content[request.sent : request.sent + size])
            request.sent += size
            if behaviour.pause:
                self.server.released.wait(behaviour.pause)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the tests look at `requests`."""


def hopper(seed: int, rows: int = 9000, **changes: np.ndarray) -> bytes:
    """A file in D4RL's layout, compressed as D4RL's are."""
    stream = np.random.default_rng(seed)
    arrays = {
        "observations": stream.normal(size=(rows, 11)).astype(np.float32),
        "actions": stream.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "rewards": stream.normal(size=rows).astype(np.float32),
        "terminals": np.zeros(rows, np.bool_),
        "timeouts": np.arange(rows) % 1000 == 999,
        **changes,
    }
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip", compression_opts=1)
    return buffer.getvalue()


def damaged_end(content: bytes) -> bytes:
    """All in its place, but the last rows of the actions do not unpack."""
    damaged = bytearray(content)
    with h5py.File(io.BytesIO(content)) as file:
        chunk = file["actions"].id.get_chunk_info_by_coord((8999, 2))
    damaged[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    return bytes(damaged)


def start(*mirrors: str) -> "subprocess.Popen[str]":
    """The client, at work."""
    command = [sys.executable, "-c", PROGRAM, *mirrors]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
