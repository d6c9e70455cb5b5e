"""A load generator in a process of its own: the same POST over keep-alive connections, as fast as the answers come.

    python bench/load.py --port 7071 --path /api/begin/nothing --requests 20000 --connections 32

Prints one JSON object: requests, seconds, its own processor time, answers by status, percentiles of the latencies in
milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from typing import Any

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        record = runner.run(load(arguments.port, arguments.path, arguments.requests, arguments.connections))
    print(json.dumps(record))


async def load(port: int, path: str, requests: int, connections: int) -> dict[str, Any]:
    """Send that many requests, and return what came of them."""
    run = Run(f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 0\r\n\r\n".encode(), requests)
    loop = asyncio.get_running_loop()
    run.begun = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(run), "127.0.0.1", port)
    await run.ended.wait()
    seconds = time.perf_counter() - run.begun
    latencies = sorted(run.latencies)
    return {
        "requests": len(latencies),
        "seconds": round(seconds, 3),
        "cpu_s": round(time.process_time(), 3),
        "statuses": dict(run.statuses),
        **{f"p{each}_ms": round(latencies[len(latencies) * each // 100] * 1000, 2) for each in (50, 95, 99)},
    }


class Run:
    """What all connections share."""

    def __init__(self, request: bytes, count: int) -> None:
        self.request = request
        self.begun = 0.0
        self.left = count
        self.open = count
        self.latencies: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.ended = asyncio.Event()


class Connection(asyncio.Protocol):
    """Sends a request whenever the answer to the one before is there."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < _length(head):
            return
        run = self._run
        run.latencies.append(time.perf_counter() - self._sent_at)
        run.statuses[head[9:12].decode()] += 1
        run.open -= 1
        self._buffer = b""
        if run.open == 0:
            run.ended.set()
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._run.open:
            raise ConnectionError("the host closed a connection")

    def _send(self) -> None:
        if self._run.left:
            self._run.left -= 1
            self._sent_at = time.perf_counter()
            self._transport.write(self._run.request)


def _length(head: bytes) -> int:
    at = head.lower().index(b"content-length:") + 15
    return int(head[at:].split(b"\r\n", 1)[0])


if __name__ == "__main__":
    main()
