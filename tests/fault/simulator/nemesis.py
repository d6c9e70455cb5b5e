"""Mischief: crashes, pauses, wrong clocks, bad stores, hosts that come and go; in the end it makes all good again."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from datetime import timedelta
from random import Random

from .hosts import Host
from .processes import Process, ProcessLoop

KINDS = ("crash", "pause", "shut_down", "clock", "errors", "late", "slow", "blackout")


class Nemesis:
    """Hurts hosts at random moments.

    Args:
        kinds: which of `KINDS` this run knows.
        mean_s: mean time from one harm to the next.
        reopen: closes the store and opens it again, when all hosts are dead.
    """

    def __init__(
        self,
        hosts: list[Host],
        loop: ProcessLoop,
        rng: Random,
        kinds: tuple[str, ...],
        mean_s: float,
        lease_s: float,
        reopen: Callable[[], None],
        trace: Callable[[str], None],
    ) -> None:
        self._hosts = hosts
        self._loop = loop
        self._rng = rng
        self._kinds = kinds
        self._mean_s = mean_s
        self._lease_s = lease_s
        self._reopen = reopen
        self._trace = trace
        self._is_over = not kinds
        self.deeds = 0
        for host in hosts:
            host.died = self._died

    def begin(self) -> None:
        """From now on, anything may happen."""
        if not self._is_over:
            self._later(self._rng.expovariate(1 / self._mean_s), self._strike)

    def make_good(self) -> None:
        """Stop, and mend everything."""
        self._is_over = True
        for host in self._hosts:
            host.weather.clear_up()
            host.clock.offset = timedelta()
            if host.process is not None and host.process.is_stopped:
                self._loop.resume_process(host.process)
            if host.settings is not host.newer:
                self._later(0.0, self._upgrade, host)
            elif not host.is_up:
                host.boot()

    def _upgrade(self, host: Host) -> None:
        host.crash()
        host.settings = host.newer
        host.boot()

    def _later(self, delay: float, what: Callable[..., object], *args: object) -> None:
        self._loop.call_later(delay, what, *args, context=Context())

    def _strike(self) -> None:
        if self._is_over:
            return
        rng = self._rng
        host, kind = rng.choice(self._hosts), rng.choice(self._kinds)
        self.deeds += 1
        self._trace(f"nemesis: {kind} {host.name}")
        getattr(self, f"_{kind}")(host)
        self._later(rng.expovariate(1 / self._mean_s), self._strike)

    def _span(self) -> float:
        """A time around those that matter."""
        return self._lease_s * self._rng.choice((0.02, 0.1, 0.5, 0.9, 1.1, 2.0))

    def _crash(self, host: Host) -> None:
        host.crash()
        self._later(self._span(), self._restart, host)

    def _blackout(self, host: Host) -> None:
        """Every process of the hub dies, the store's with them."""
        for each in self._hosts:
            each.crash()
            self._later(self._span(), self._restart, each)
        self._reopen()

    def _died(self, host: Host) -> None:
        """It was killed by an activity; like any other, it is started again."""
        self.deeds += 1
        self._trace(f"{host.name} is killed by an activity")
        self._later(self._span(), self._restart, host)

    def _restart(self, host: Host) -> None:
        if not host.is_up:
            self._trace(f"nemesis: {host.name} comes back")
            host.boot()

    def _pause(self, host: Host) -> None:
        process = host.process
        if process is not None and process.is_alive and not process.is_stopped:
            self._loop.stop_process(process)
            self._later(self._span(), self._resume, process)

    def _resume(self, process: Process) -> None:
        if process.is_stopped:
            self._trace(f"nemesis: {process.name} goes on")
            self._loop.resume_process(process)

    def _shut_down(self, host: Host) -> None:
        host.shut_down(timedelta(seconds=self._span()))
        self._later(self._lease_s * 2.5, self._restart, host)

    def _clock(self, host: Host) -> None:
        host.clock.offset = timedelta(seconds=self._rng.choice((-1, 1)) * self._span() * 2)

    def _errors(self, host: Host) -> None:
        if self._rng.random() < 0.5:
            host.weather.fails_before = self._rng.choice((0.05, 0.3, 1.0))
        else:
            host.weather.fails_after = self._rng.choice((0.05, 0.3, 1.0))
        self._later(self._span(), host.weather.clear_up)

    def _late(self, host: Host) -> None:
        host.weather.comes_late = self._rng.choice((0.05, 0.3))
        self._later(self._span(), host.weather.clear_up)

    def _slow(self, host: Host) -> None:
        host.weather.slowness = self._rng.choice((5.0, 30.0))
        self._later(self._span(), host.weather.clear_up)
