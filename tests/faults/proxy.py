"""A proxy before an S3 server that fails requests by a schedule: what a real line does to us.

    with FaultyS3("http://127.0.0.1:5000", seeded(7, {"503": 0.05, "lost": 0.05})) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.url

A fault is a word: a status such as `503`; `slow`; `stall` (no answer until the proxy closes);
`reset` before the server hears of the request; `lost` (the server did it, and its answer is
reset); `short` (the body of the answer ends early).
"""

import http.client
import itertools
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_S = 0.3
CODES = {"409": "ConditionalRequestConflict", "500": "InternalError", "503": "SlowDown"}

Schedule = Callable[[int], str]
"""Gives the fault of a request by its number, or `ok`."""


def seeded(seed: int, rates: Mapping[str, float]) -> Schedule:
    """Draw the fault of each request from its number, each word at its rate."""

    def draw(number: int) -> str:
        place = random.Random(f"{seed} {number}").random()
        for word, edge in zip(rates, itertools.accumulate(rates.values()), strict=True):
            if place < edge:
                return word
        return "ok"

    return draw


class FaultyS3:
    """Runs in threads of this process from construction until `close`.

    Attributes:
        faults: the words for the next requests, before the schedule has its say.
        seen: the method and the fault of each request.
        on_done: called with the number of a request that the server has done, before its answer.
    """

    def __init__(self, target: str, schedule: Schedule = lambda number: "ok") -> None:
        self.faults: list[str] = []
        self.seen: list[tuple[str, str]] = []
        self.on_done: Callable[[int], None] = lambda number: None
        self.closed = threading.Event()
        self._schedule = schedule
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self, "target": target.split("://")[1]})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> "FaultyS3":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def counts(self) -> dict[str, int]:
        """Say how many requests met each fault."""
        return dict(sorted(Counter(fault for _, fault in self.seen).items()))

    def choose(self, method: str) -> tuple[int, str]:
        """Number a request and say what becomes of it."""
        with self._lock:
            number = len(self.seen)
            fault = self.faults.pop(0) if self.faults else self._schedule(number)
            self.seen.append((method, fault))
            return number, fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        if not isinstance(sys.exception(), ConnectionError):  # a client that was killed
            super().handle_error(request, address)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, with one of its own to the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultyS3
    target: str

    def setup(self):
        super().setup()
        self.server_side = http.client.HTTPConnection(self.target, timeout=60)

    def finish(self):
        self.server_side.close()
        super().finish()

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        number, fault = self.proxy.choose(self.command)
        if fault.isdecimal():
            text = f"<Error><Code>{CODES.get(fault, 'X')}</Code><Message>injected</Message></Error>"
            self.answer(int(fault), [("Content-Length", str(len(text)))], text.encode())
            return
        if fault == "slow":
            time.sleep(SLOW_S)
        if fault == "stall":
            self.proxy.closed.wait()
        if fault in ("reset", "stall"):
            self.reset()
            return
        status, headers, data = self.ask(body)
        self.proxy.on_done(number)
        if fault == "lost":
            self.reset()
            return
        cut = len(data) // 2 if fault == "short" else None
        self.answer(status, headers, data[:cut])
        if fault == "short" and data:
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward

    def ask(self, body):
        headers = {name: text for name, text in self.headers.items() if name != "Expect"}
        for fresh in (False, True):
            try:
                self.server_side.request(self.command, self.path, body, headers)
                reply = self.server_side.getresponse()
                return reply.status, reply.getheaders(), reply.read()
            except (http.client.BadStatusLine, ConnectionError):  # it was closed since
                self.server_side.close()
                if fresh:
                    raise
        raise AssertionError("the second attempt returns or raises")

    def answer(self, status, headers, data):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def reset(self):
        """Close with a reset, not with an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_):
        pass
