"""One seed from its beginning to its verdict."""

from __future__ import annotations

import asyncio
import gc
import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from perdure.core.records import StartPolicy
from perdure.core.versions import VersionFailure, Versioning
from perdure.engine.settings import Settings
from perdure.engine.store import Store
from perdure.stores.memory import MemoryStore
from perdure.stores.sqlite import SqliteStore

from .boxes import OPERATIONS, box_id
from .clients import Clients
from .faulty_store import at_once
from .hosts import Host, World
from .meddlers import KINDS as DEEDS
from .meddlers import Meddlers
from .nemesis import KINDS as HARMS
from .nemesis import Nemesis
from .oracle import Finding, Oracle
from .processes import ProcessLoop
from .programs import ENTITY_KINDS, VERSIONS, Writer, events_needed, named_children
from .programs import KINDS as NODES
from .verdict import judge, remembered

LEASE_S = 12.0

# After everything is mended: leases run out, clocks of half a minute are made up for, what kills its host uses up its
# dispatches, and the longest program ends.
BOUND_S = 1200.0

FORGETTING_S = 60.0  # and the horizon: so long, what was replaced leaves its timers in memory

TURNS_MAX = 400_000  # a run takes some thousand; one that takes so many goes round in circles

Trace = Callable[[str], None]


class Features(Struct, frozen=True):
    """What a run may contain beyond what its seed draws; a planted fault's test asks for the conditions that it needs.

    Attributes:
        harms: kinds of mischief; None lets the seed draw.
        nodes: kinds of program nodes; None lets the seed draw.
        settings: settings to use whatever the seed draws.
        crowds: whether several clients may start the same instance.
        deeds: what clients do to instances that others started; None lets the seed draw.
        hosts: how many; None lets the seed draw.
        versions: whether instances and hosts have versions; None lets the seed draw.
        boxes: how many entities; None lets the seed draw, and there may be none.
        events: how many events each instance gets that it may not want; None lets the seed draw.
    """

    harms: tuple[str, ...] | None = None
    nodes: tuple[str, ...] | None = None
    settings: dict[str, Any] = {}
    crowds: bool | None = None
    deeds: tuple[str, ...] | None = None
    hosts: int | None = None
    versions: bool | None = None
    boxes: int | None = None
    events: int | None = None


class Result(Struct, frozen=True):
    """What came of a seed; `digest` is the same for the same run, and `reached` says what happened in it, how often."""

    seed: int
    store: str
    findings: tuple[Finding, ...]
    digest: str
    turns: int
    commits: int
    instances: int
    deeds: int
    seconds: float
    reached: dict[str, int]


def simulate(
    seed: int, store: str = "memory", *, features: Features | None = None, trace: Trace | None = None
) -> Result:
    """Run one seed.

    Args:
        store: "memory" or "sqlite".
        trace: called with a line for everything that happens.
    """
    features = features or Features()
    with ExitStack() as stack:
        hub: Store = _make_store(store, stack)
        return _Run(seed, store, hub, features, trace).result()


def _make_store(kind: str, stack: ExitStack) -> Store:
    if kind == "memory":
        return MemoryStore(4)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="perdure-sim-"))
    hub = SqliteStore(Path(folder) / "hub.db", partitions=3, inline=True)
    stack.callback(lambda: at_once(hub.close()))
    _reopen(hub)
    return hub


def _reopen(hub: Store) -> None:
    """What the death of the process and its restart are to a store."""
    at_once(hub.close())
    at_once(hub.open())
    if isinstance(hub, SqliteStore):
        assert hub._db is not None
        hub._db.execute("pragma synchronous = off")  # processes die here, but no machine does


class _Run:
    def __init__(self, seed: int, kind: str, store: Store, features: Features, trace: Trace | None) -> None:
        self.seed = seed
        self.kind = kind
        self.store = store
        self._digest = blake2b(digest_size=8)
        self._events = features.events
        self._crowded: dict[tuple[str, int], tuple[int, int]] = {}
        self._write = trace
        rng = Random(f"{seed}/shape")
        draw = self._random
        harms = features.harms
        if harms is None:
            harms = () if rng.random() < 0.3 else tuple(each for each in HARMS if rng.random() < 0.4) or ("crash",)
        self.loop = ProcessLoop(f"{seed}/loop", disorder=rng.choice((0.0, 0.1, 0.5, 1.0)))
        self.settings = _settings(rng, features.settings)
        self.oracle = Oracle(
            store.partitions,
            self.loop.time,
            is_calm=not harms,
            dispatches_max=self.settings.dispatches_max,
            trace=self.trace,
        )
        has_versions = rng.random() < 0.15 if features.versions is None else features.versions
        if has_versions:
            strategy = rng.choice((VersionFailure.REJECT, VersionFailure.REJECT, VersionFailure.FAIL))
            old, new = (
                replace(self.settings, versioning=Versioning(each, failure=strategy)) for each in ("1.0", "2.0")
            )
        else:
            old = new = self.settings
        count = features.hosts or rng.randint(1, 4)
        world = World()
        self.hosts = [
            Host(f"h{number}", store, self.oracle, self.loop, old if harms else new, draw(f"h{number}"), world)
            for number in range(count)
        ]
        for host in self.hosts:
            host.newer = new
        self.clients = Clients(
            self.hosts,
            self.oracle,
            self.loop,
            draw("clients"),
            repeats=rng.choice((0.0, 0.0, 0.1, 0.5)),
            name_starts="late" in harms,
            versions=(None, *VERSIONS) if has_versions else (None,),
        )
        self.nemesis = Nemesis(
            self.hosts,
            self.loop,
            draw("nemesis"),
            harms,
            rng.choice((1.0, 3.0, 6.0)),
            LEASE_S,
            partial(_reopen, store),
            self.trace,
        )
        nodes = features.nodes
        if nodes is None:
            nodes = tuple(each for each in dict.fromkeys(NODES) if each not in ENTITY_KINDS and rng.random() < 0.5)
            if not harms or rng.random() < 0.8:
                nodes = tuple(each for each in nodes if each != "poison")
            nodes = tuple(each for each in nodes if each != "version" or has_versions)
        chance = draw("entities")
        if features.nodes is None and chance.random() < 0.5:
            nodes = (*nodes, *(each for each in ENTITY_KINDS if chance.random() < 0.7))
        has_boxes = any(each in ENTITY_KINDS for each in nodes)
        self._boxes = tuple(box_id(each) for each in range(features.boxes or chance.randint(1, 3))) if has_boxes else ()
        self._signals = [self._operations(number, chance) for number in range(chance.randint(0, 3) * has_boxes)]
        deeds = features.deeds
        if deeds is None:
            deeds = () if rng.random() < 0.3 else tuple(each for each in DEEDS if rng.random() < 0.4)
        self._plan(
            rng, frozenset((*nodes, "act")), deeds, rng.random() < 0.3 if features.crowds is None else features.crowds
        )
        self.mischief_s = rng.uniform(5.0, 40.0)

    def _operations(self, number: int, rng: Random) -> list[tuple[str, str, dict[str, str], float | None]]:
        """What a client sends to entities."""
        sent: list[tuple[str, str, dict[str, str], float | None]] = []
        for turn in range(rng.choice((2, 5, 20))):
            given = {"token": f"c{number}.{turn}", "to": rng.choice(self._boxes)}
            sent.append((rng.choice(self._boxes), rng.choice(OPERATIONS), given, rng.choice((None,) * 6 + (0.5, 9.0))))
        return sent

    def _random(self, name: str) -> Random:
        return Random(f"{self.seed}/{name}")

    def trace(self, line: str) -> None:
        self._digest.update(f"{self.loop.time():.6f} {line}\n".encode())
        if self._write is not None:
            self._write(f"{self.loop.time():10.4f}  {line}")

    def _plan(self, rng: Random, nodes: frozenset[str], deeds: tuple[str, ...], has_crowds: bool) -> None:
        """Decide who will start what, and who sends what to whom."""
        shared = tuple(f"shared{number}" for number in range(rng.choice((0, 0, 1, 2))))
        roots = [f"r{number}" for number in range(rng.randint(1, 5))]
        writer = Writer(rng, nodes, shared, (*roots, *shared, "nobody"), self._boxes)
        self._roots: list[tuple[str, Any, float]] = []
        for root in roots:
            self._roots.append((root, writer.program(root), rng.random() * 10))
        self._ends = [(root, rng.random() * 20) for root, _, _ in self._roots if rng.random() < 0.12]
        self._crowds: list[tuple[str, Any, float, StartPolicy]] = []
        if has_crowds:
            policy = rng.choice((StartPolicy.REJECT, StartPolicy.REJECT, StartPolicy.REPLACE, StartPolicy.IGNORE))
            for _ in range(rng.randint(2, 4)):
                program = writer.program(None, depth=1, events=False)
                self._crowds.append(("crowd", program, rng.random() * 6, policy))
        programs = [writer.program(None, depth=1, events=False) for _ in range(3)]
        self.meddlers = Meddlers(self.clients, self.oracle, self._random("meddlers"), deeds, programs)
        self._meddlers = [
            (number, rng.randint(1, 6), rng.random() * 12) for number in range(rng.randint(1, 3) if deeds else 0)
        ]
        self._delays = rng

    # ------------------------------------------------------------------ running

    def result(self) -> Result:
        log = _Errors(self.oracle)
        logger = logging.getLogger("perdure")
        level, propagate = logger.level, logger.propagate
        logger.setLevel(logging.ERROR if self._write is None else logging.INFO)
        logger.addHandler(log)
        logger.propagate = False
        gc_was_on = gc.isenabled()
        gc.disable()
        try:
            self.loop.run_until_complete(self._main())
            self.loop.run_until_complete(self._end())
        finally:
            logger.removeHandler(log)
            logger.setLevel(level)
            logger.propagate = propagate
            self.loop.close()
            if gc_was_on:
                gc.enable()
        for each in self.loop.complaints:
            self.oracle.find("Q", each)
        return Result(
            seed=self.seed,
            store=self.kind,
            findings=tuple(self.oracle.findings),
            digest=self._digest.hexdigest(),
            turns=self.loop.turns_taken,
            commits=self.oracle.committed,
            instances=len(self.oracle.executions),
            deeds=self.nemesis.deeds,
            seconds=self.loop.time(),
            reached=self._reached(),
        )

    def _reached(self) -> dict[str, int]:
        oracle = self.oracle
        executions = oracle.executions.values()
        reached = Counter(
            {
                "replaced while running": oracle.replaced_running,
                "start repeated": oracle.repeated_starts,
                "event carried": sum(len(each.carried) for each in executions),
                "event discarded": sum(each.discarded is not None for each in oracle.raised.values()),
                "terminated": sum(each.end is not None and each.end.status == "Terminated" for each in executions),
                "failed": sum(each.end is not None and each.end.status == "Failed" for each in executions),
                "child": sum(each.parent is not None for each in executions),
                "child refused": len(oracle.refused),
                "activity run again": sum(each.begun > 1 for each in oracle.activities.values()),
                **oracle.counts,
            }
        )
        for counters in (each for host in self.hosts for each in host.counters):
            reached.update({"lease lost": counters.lost, "stale": counters.stale, "cold load": counters.cold_loads})
            reached.update({f"dropped {reason}": count for reason, count in counters.dropped.items()})
        return dict(reached)

    async def _main(self) -> None:
        for host in self.hosts:
            host.boot()
        if self.oracle.is_calm:
            await self._settle()
        self._invite()
        self.nemesis.begin()
        await self._sleep(self.mischief_s)
        self.trace("nemesis: over")
        self.nemesis.make_good()
        while not self._is_quiet() or remembered(self.hosts):
            if not await self._calm_down():
                return

    async def _calm_down(self) -> bool:
        """Wait until nothing is left to do, and then until that is forgotten; returns whether all went well."""
        deadline = self.loop.time() + BOUND_S
        while not self._is_quiet():
            if self.loop.time() > deadline:
                self._stuck()
                return False
            await self.meddlers.help_on()
            if not await self._sleep(1.0):
                return False
        deadline = self.loop.time() + FORGETTING_S + self.settings.timer_horizon.total_seconds()
        while self._is_quiet() and (kept := remembered(self.hosts)):
            if self.loop.time() > deadline:
                for each in kept:
                    self.oracle.find("L4", each)
            if not await self._sleep(1.0):
                return False
        return True

    async def _settle(self) -> None:
        """Wait until every partition has its lasting holder."""
        while not all(host.engine._is_ready.is_set() for host in self.hosts):
            await self._sleep(1.0)
        await self._sleep(self.settings.lease_interval.total_seconds() * 4)
        while sum(len(host.engine.held_partitions) for host in self.hosts) < self.store.partitions:
            await self._sleep(1.0)
        self.oracle.is_settled = True

    async def _sleep(self, seconds: float) -> bool:
        """Let time pass; returns whether to go on: a broken promise is enough to stop."""
        until = self.loop.time() + seconds
        while self.loop.time() < until and not self.oracle.findings:
            await asyncio.sleep(min(1.0, max(until - self.loop.time(), 0.001)))
            self.clients.raise_defects()
            self._check_sessions()
            if self.loop.turns_taken > TURNS_MAX:
                self.oracle.find("L4", f"{TURNS_MAX} turns, and no end")
        return not self.oracle.findings

    def _check_sessions(self) -> None:
        """After a commit, no more instances than allowed are kept idle in memory."""
        allowed = 0 if self.settings.replay_always else self.settings.sessions_max
        for host in self.hosts:
            commits = host.engine.counters.commits
            for partition in host.engine._partitions.values():
                idle = sum(each not in partition._busy and each not in partition._ready for each in partition.sessions)
                key = (host.name, partition.lease.partition)
                seconds, then = self._crowded.get(key, (0, -1))
                seconds = seconds + 1 if idle > allowed and commits == then else 0
                self._crowded[key] = (seconds, commits)
                if seconds > 5:
                    self.oracle.find("L4", f"{host.name} keeps {idle} idle sessions where {allowed} are allowed")

    def _invite(self) -> None:
        rng, clients = self._delays, self.clients
        for root, program, delay in self._roots:
            clients.add(root, clients.run_root(root, program, delay))
            needed = events_needed(program)
            if needed:
                rng.shuffle(needed)
                extra = [
                    rng.choice(("a", "b", "c"))
                    for _ in range(rng.choice((0, 0, 1, 2, 10)) if self._events is None else self._events)
                ]
                feed = clients.feed(root, [*needed, *extra], delay * rng.random() * 2, None)
                clients.add(f"feed {root}", feed)
            for child, childs in named_children(program):
                if events_needed(childs):
                    feed = clients.feed(child, events_needed(childs), delay + rng.random() * 5, root)
                    clients.add(f"feed {child}", feed)
        for root, delay in self._ends:
            clients.add(f"end {root}", clients.terminate(root, delay))
        for each in self._meddlers:
            clients.add(f"meddler {each[0]}", self.meddlers.meddle(*each))
        for number, operations in enumerate(self._signals):
            clients.add(f"signals {number}", clients.signal(operations))
        for number, crowd in enumerate(self._crowds):
            clients.add(f"crowd {number}", clients.crowd(*crowd))

    def _is_quiet(self) -> bool:
        return self.clients.are_done and not self.oracle.unfinished and not self.oracle.mail

    def _stuck(self) -> None:
        oracle = self.oracle
        if oracle.unfinished:
            oracle.find("L3", f"stuck {BOUND_S} s after all was mended: {', '.join(oracle.unfinished)}")
        elif oracle.mail:
            oracle.find("M1", f"mail that nobody reads: {[each.message.event for each in oracle.mail.values()][:3]}")
        else:
            oracle.find("L3", f"clients wait for ever: {', '.join(self.clients.waiting)}")

    async def _end(self) -> None:
        if not self.oracle.findings:
            await judge(self.store, self.oracle, self.clients, self.hosts)
        killed = asyncio.Event()

        def kill() -> None:
            for host in self.hosts:
                host.crash()
            killed.set()

        self.loop.call_soon(kill)
        await killed.wait()
        for task in asyncio.all_tasks(self.loop):
            if task is not asyncio.current_task():
                task.cancel()
        await asyncio.sleep(1)


class _Errors(logging.Handler):
    """What the product reports as an error is a finding; the rest goes into the trace."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self._oracle = oracle

    def emit(self, record: logging.LogRecord) -> None:
        told = {
            key: record.__dict__[key] for key in ("instance_id", "partition", "epoch", "reason") if hasattr(record, key)
        }
        if record.levelno >= logging.ERROR:
            self._oracle.find("Q", f"{record.getMessage()}: {told}")
        else:
            self._oracle.note(f"{record.getMessage()} {told}")


def _settings(rng: Random, wanted: dict[str, Any]) -> Settings:
    poll_s = rng.choice((1.0, 2.0, 4.0))
    drawn = {
        "lease_ttl": timedelta(seconds=LEASE_S),
        "lease_interval": timedelta(seconds=rng.choice((1.0, 3.0, 4.0))),
        "poll_interval": timedelta(seconds=poll_s),
        "timer_horizon": timedelta(seconds=poll_s * rng.choice((1.3, 3.0, 30.0))),
        "page_size": rng.choice((1, 2, 5, 1000)),
        "slice_size": rng.choice((1, 3, 128)),
        "checkpoints_max": rng.choice((1, 2, 2000)),
        "sessions_max": rng.choice((1, 3, 20_000)),
        "replay_always": rng.random() < 0.2,
        "watch_interval": timedelta(seconds=1),
        "dispatches_max": rng.choice((3, 5)),
        "dispatches_alone": rng.choice((1, 2)),
    }
    return Settings(**{**drawn, **wanted})
