"""One task hub on virtual time, for the cases of the catalogue: the real engine, client, stores and SDK.

Nothing here waits: time passes when nothing else is left to do, activities are called where the engine runs, and the
same case always runs the same way. What a case may do to its hub, it does through `Hub`. With CASE_SEED in the
environment, what is ready runs in an order that this seed chooses, and every case has to come out the same.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx2
from azure.durable_functions import DurableEntity, DurableOrchestrationClient, Orchestrator
from azure.durable_functions.entity import Entity

from perdure.core.codec import payloads
from perdure.core.events import HistoryEvent
from perdure.core.records import EntityQuery, Instance, Message, RuntimeStatus
from perdure.engine.check import check_hub
from perdure.engine.client import TaskHubClient
from perdure.engine.engine import Engine
from perdure.engine.requests import Request, Send
from perdure.engine.settings import Settings
from perdure.engine.store import Store
from perdure.errors import HostStoppedError, StoreUnavailableError
from perdure.host.invoke import Activity, LocalExecutor
from perdure.host.user_code import Call, current_invocation
from perdure.stores.memory import MemoryStore
from perdure.stores.sqlite import SqliteStore
from perdure.testing.loop import VIRTUAL_EPOCH, SimLoop, VirtualClock
from perdure.webapi.links import management_urls
from perdure.webapi.routes import management_app

HUB_NAME = "TestHub"
ORIGIN = "http://localhost:7071"
API = "/runtime/webhooks/durabletask"

# One host has nobody to be balanced with and nothing to poll for, so days of virtual time need not be cut in seconds.
ALONE = Settings(
    lease_ttl=timedelta(days=10),
    lease_interval=timedelta(days=1),
    poll_interval=timedelta(hours=1),
    timer_horizon=timedelta(hours=2),
    watch_interval=timedelta(hours=1),
)

# For two hosts, of which one has to notice what becomes of the other.
SHARED = Settings()

TURNS_MAX = 1_000_000  # the largest case takes a third; whoever takes more goes round in circles

LONGEST_WAIT = timedelta(days=400)


class CaseLoop(SimLoop):
    """A virtual loop that gives up when no time passes any more."""

    def __init__(self) -> None:
        super().__init__(os.environ.get("CASE_SEED"))
        self._turns_left = TURNS_MAX

    def _run_once(self) -> None:
        self._turns_left -= 1
        if not self._turns_left:
            raise RuntimeError(f"the case does not end: {TURNS_MAX} turns of its loop")
        super()._run_once()


class InlineCode:
    """Calls user functions on the loop's thread: sync ones at once, async ones as tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def submit(self, call: Call, *, is_async: bool) -> None:
        """Run an activity."""
        if self._is_closed:
            return
        if not is_async:
            call.done(*_called(call))
            return
        task = asyncio.get_running_loop().create_task(self._run(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def run(self, call: Call, *, is_async: bool) -> None:
        """Run an entity's operations."""
        self.submit(call, is_async=is_async)

    async def _run(self, call: Call) -> None:
        current_invocation.set(call.invocation)
        try:
            value = await call.function(**call.arguments())
        except Exception as error:
            call.done(None, error)
        else:
            call.done(value, None)

    async def drain(self, timeout_s: float) -> None:
        """Begin no more activities, and wait for those that run, at most so long."""
        self._is_closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    def kill(self) -> None:
        """Nothing of what runs comes to an end."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()


def _called(call: Call) -> tuple[Any, BaseException | None]:
    token = current_invocation.set(call.invocation)
    try:
        return call.function(**call.arguments()), None
    except BaseException as error:
        return None, error
    finally:
        current_invocation.reset(token)


class InlineExecutor(LocalExecutor):
    """The local executor without threads."""

    def _watch(self, thread_id: int) -> None:
        """Nothing blocks but by a defect of the case."""


class Trouble:
    """What happens at some call of a store's operation: it fails, or the host that calls it dies."""

    def __init__(self, operation: str, number: int, is_after: bool, is_deadly: bool) -> None:
        self.operation = operation
        self.remaining = number
        self.is_after = is_after
        self.is_deadly = is_deadly


class HostStore:
    """The store as one host sees it."""

    def __init__(self, store: Store, troubles: list[Trouble], crash: Callable[[], None]) -> None:
        self._store = store
        self._troubles = troubles
        self._crash = crash
        self._is_awake = asyncio.Event()
        self._is_awake.set()
        self.is_dead = False

    def pause(self) -> None:
        """Let every call wait until `go_on`."""
        self._is_awake.clear()

    def go_on(self) -> None:
        """Let calls through again."""
        self._is_awake.set()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if name in ("partitions", "dump"):
            return value

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._may_call()
            trouble = self._due(name)
            if trouble is not None and not trouble.is_after:
                await self._fail(trouble)
            result = await value(*args, **kwargs)
            if trouble is not None and trouble.is_after:
                await self._fail(trouble)
            if name == "changed":
                await self._may_call()
            return result

        return call

    def _due(self, name: str) -> Trouble | None:
        for trouble in self._troubles:
            if trouble.operation == name:
                trouble.remaining -= 1
                if not trouble.remaining:
                    self._troubles.remove(trouble)
                    return trouble
        return None

    async def _fail(self, trouble: Trouble) -> None:
        if not trouble.is_deadly:
            raise StoreUnavailableError(f"{trouble.operation} failed, as the case wants it")
        self._crash()
        await self._may_call()

    async def _may_call(self) -> None:
        await self._is_awake.wait()
        if self.is_dead:
            await asyncio.get_running_loop().create_future()  # nobody hears what a dead process was told


class Host:
    """One process: an engine with its executor and client."""

    def __init__(self, hub: Hub, store: Store, functions: Functions, settings: Settings, clock: VirtualClock) -> None:
        self.store = HostStore(store, hub.troubles, self.crash)
        self.code = InlineCode()
        executor = InlineExecutor(
            dict(functions.orchestrators),
            dict(functions.activities),
            self.code,  # type: ignore[arg-type] - it does what the executor asks of user code
            entities=dict(functions.entities),
            **functions.limits,
        )
        self.engine = Engine(
            self.store,  # type: ignore[arg-type] - a Store, but for what it passes on
            executor,
            clock=clock,
            settings=settings,
            observe=hub.turned.append,
            new_id=hub.new_id,
        )
        self.client = TaskHubClient(self.engine)
        self._running: asyncio.Task[None] | None = None

    async def boot(self) -> None:
        """Start the engine; returns once it holds its partitions."""
        self._running = asyncio.create_task(self.engine.run())
        ready = asyncio.create_task(self.engine.ready())
        await asyncio.wait([self._running, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        self.check()

    @property
    def is_up(self) -> bool:
        """It has been booted and has not died."""
        return self._running is not None and not self.store.is_dead

    def check(self) -> None:
        """Fail the case if the engine has failed, or has found something that it cannot run."""
        if self._running is not None and self._running.done() and not self._running.cancelled():
            self._running.result()
        assert not self.engine.counters.quarantined, "the engine has left an instance alone: see its log"

    def crash(self) -> None:
        """From this moment on, nothing that the host does has an effect."""
        self.store.is_dead = True
        self.store.go_on()
        self.code.kill()
        if self._running is not None:
            self._running.cancel()

    def pause(self) -> None:
        """Stop the host where it stands, as far as anybody else can tell, until `go_on`."""
        self.store.pause()

    def go_on(self) -> None:
        """Go on where it stopped, with all that it believed then."""
        self.store.go_on()

    async def ended(self) -> None:
        """Wait until nothing of a dead host runs any more."""
        if self._running is not None:
            await asyncio.wait([self._running])
            self.check()


class Functions:
    """What an app registers."""

    def __init__(self) -> None:
        self.orchestrators: dict[str, Callable[..., Any]] = {}
        self.activities: dict[str, Activity] = {}
        self.entities: dict[str, Entity] = {}
        self.limits: dict[str, int] = {}

    def orchestrator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register an orchestrator under the function's name, as `DFApp.orchestration_trigger` does."""
        self.orchestrators[function.__name__] = Orchestrator.create(function)
        return function

    def activity(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register an activity under the function's name."""
        parameter = next(iter(inspect.signature(function).parameters))
        self.activities[function.__name__] = Activity(function.__name__, function, parameter)
        return function

    def entity(self, code: Callable[..., Any] | type[DurableEntity]) -> Any:
        """Register an entity, a function or a class, under its name."""
        self.entities[code.__name__] = Entity(code)
        return code


class Hub(Functions):
    """A store and the host that runs on it, which starts when the first client asks something.

    Attributes:
        store: the store itself, without troubles.
        replays: every episode replays its history.
        settings: of hosts that start from now on.
        clock: of all hosts.
        turned: the rows that hosts told of: what began an instance's life, or ended it.
    """

    def __init__(self, store: Store, *, replays: bool, settings: Settings, seed: str) -> None:
        super().__init__()
        self.store = store
        self.replays = replays
        self.settings = settings
        self.troubles: list[Trouble] = []
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.hosts: list[Host] = []
        self.turned: list[Instance] = []
        self._ids = Random(seed)

    @property
    def is_memory(self) -> bool:
        """The store can be shared by hosts."""
        return isinstance(self.store, MemoryStore)

    def many(self, count: int) -> int:
        """So many where that costs least, a twentieth elsewhere: the other runs are for what differs, not for mass."""
        return count if self.is_memory and not self.replays else max(count // 20, 10)

    def new_id(self) -> str:
        """An id that nobody else makes, the same in each run of the case."""
        return f"{self._ids.getrandbits(128):032x}"

    # ------------------------------------------------------------------ hosts

    async def up(self) -> Host:
        """The first host that runs, started if there is none."""
        for host in self.hosts:
            if host.is_up:
                return host
        assert not self.hosts, "no host is up: the case has to restart one"
        return await self.add_host()

    async def add_host(self, functions: Functions | None = None, settings: Settings | None = None) -> Host:
        """Start another host on the store, with functions of its own perhaps."""
        settings = settings or self.settings
        if self.replays:
            settings = _replace(settings, replay_always=True)
        host = Host(self, self.store, functions or self, settings, self.clock)
        self.hosts.append(host)
        await host.boot()
        return host

    @property
    def host(self) -> Host:
        """The host that runs, or ran last."""
        return next((each for each in self.hosts if each.is_up), self.hosts[-1])

    @property
    def engine(self) -> Engine:
        """That host's engine."""
        return self.host.engine

    @property
    def client(self) -> TaskHubClient:
        """That host's client."""
        return self.host.client

    def crash(self) -> None:
        """The process dies, now."""
        self.host.crash()

    async def restart(self) -> None:
        """What a dead process left is found by the next one, which knows the functions registered by now."""
        old = self.host
        if old.is_up:
            old.crash()
        await old.ended()
        await self._buried(old)
        await self.add_host()

    async def _buried(self, host: Host) -> None:
        """No other process of that host can be running: an embedded store knows, of another one leases run out."""
        if isinstance(self.store, SqliteStore):
            _reopen(self.store)
            return
        now = self.now
        await self.store.lease(range(self.store.partitions), host.engine.host_id, now, now + timedelta(microseconds=1))
        await self.store.beat(host.engine.host_id, now, now)
        await self.settle()

    async def shut_down(self, timeout: timedelta = timedelta(seconds=10)) -> None:
        """The host ends in good order."""
        host = self.host
        await host.engine.drain(timeout)
        host.crash()
        await host.ended()

    def fail(self, operation: str, *, after: bool, number: int = 1) -> None:
        """Let the next call of a store's operation, or the `number`-th from now, fail before or after its effect."""
        self.troubles.append(Trouble(operation, number, after, is_deadly=False))

    def crash_at(self, operation: str, *, after: bool, number: int = 1) -> None:
        """Let the host die in a call of a store's operation, before or after its effect."""
        self.troubles.append(Trouble(operation, number, after, is_deadly=True))

    # ------------------------------------------------------------------ time

    @property
    def now(self) -> datetime:
        """The virtual time, as the hosts' clock shows it."""
        return self.clock.now()

    @property
    def age(self) -> timedelta:
        """Virtual time since the case began."""
        return timedelta(seconds=asyncio.get_running_loop().time())

    async def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        await asyncio.sleep(2e-6)

    async def advance(self, **duration: float) -> None:
        """Let time pass: `seconds=`, `minutes=`, `hours=`, `days=`, as for `timedelta`."""
        await asyncio.sleep(timedelta(**duration).total_seconds())

    # ------------------------------------------------------------------ clients

    async def start(self, name: str, input: Any = None, instance_id: str | None = None, **options: Any) -> str:
        """Start an orchestration with a Python value as its input; returns its id."""
        host = await self.up()
        return await host.client.start(name, text(input), instance_id=instance_id, **options)

    async def raise_event(self, instance_id: str, name: str, data: Any = None) -> None:
        """Send an event with a Python value as its data."""
        await (await self.up()).client.raise_event(instance_id, name, text(data))

    async def rewind(self, instance_id: str, reason: str | None = None, *, request_id: str | None = None) -> None:
        """Have an instance rewound: the client returns once that is asked for durably, and here, it is then done."""
        await (await self.up()).client.rewind(instance_id, reason, request_id=request_id)
        await self.settle()

    async def wait(self, instance_id: str) -> Instance:
        """The instance once it has ended; if it does not, the case fails."""
        instance = await (await self.up()).client.wait(instance_id, LONGEST_WAIT)
        assert instance.status.is_terminal, f"{instance_id} is still {instance.status}: {await self.kinds(instance_id)}"
        return instance

    async def outlast(self, instance_id: str) -> Instance:
        """The instance once it has ended, whatever becomes of its hosts: when all are dead, another is started."""
        while True:
            if not any(each.is_up for each in self.hosts):
                await self.restart()
            try:
                return await self.wait(instance_id)
            except HostStoppedError:
                pass

    async def run(self, name: str, input: Any = None, instance_id: str | None = None, **options: Any) -> Instance:
        """Start an orchestration and return it once it has ended."""
        return await self.wait(await self.start(name, input, instance_id, **options))

    async def result(self, instance_id: str) -> Any:
        """The output of an orchestration that has to complete."""
        instance = await self.wait(instance_id)
        assert instance.status is RuntimeStatus.COMPLETED, (instance.status, instance.output)
        return value(instance.output)

    async def call(self, name: str, input: Any = None, instance_id: str | None = None, **options: Any) -> Any:
        """Start an orchestration and return its output; it has to complete."""
        return await self.result(await self.start(name, input, instance_id, **options))

    async def get(self, instance_id: str) -> Instance:
        """An instance that exists, as it is now."""
        instance = await (await self.up()).client.get(instance_id)
        assert instance is not None, f"there is no instance {instance_id}"
        return instance

    async def status(self, instance_id: str) -> str | None:
        """Where an instance stands, or None if there is none."""
        instance = await (await self.up()).client.get(instance_id)
        return None if instance is None else instance.status.value

    async def exists(self, instance_id: str) -> bool:
        """There is such an instance."""
        return await self.status(instance_id) is not None

    async def signal(self, entity_id: str, operation: str, input: Any = None, **options: Any) -> None:
        """Send an operation to an entity with a Python value as its input."""
        await (await self.up()).client.signal_entity(entity_id, operation, text(input), **options)

    async def entity_row(self, entity_id: str) -> Instance | None:
        """An entity that has a row, with or without a state."""
        page = await (await self.up()).client.entities(EntityQuery(prefix=entity_id, limit=1))
        return next((each for each in page.instances if each.instance_id == entity_id), None)

    async def lock_of(self, entity_id: str) -> str | None:
        """Id of the instance that has an entity locked, or None."""
        row = await self.entity_row(entity_id)
        return row.entity.lock.instance_id if row is not None and row.entity is not None and row.entity.lock else None

    async def state(self, entity_id: str) -> Any:
        """The state of an entity as its last batch left it; None if there is none."""
        row = await (await self.up()).client.entity(entity_id)
        return None if row is None or row.entity is None else value(row.entity.state)

    async def history(self, instance_id: str) -> list[HistoryEvent]:
        """The events of the current execution."""
        rows = await (await self.up()).client.history(instance_id)
        return [event for row in rows for event in row.events]

    async def kinds(self, instance_id: str) -> list[str]:
        """The names of the events of the current execution."""
        return [type(event).__name__ for event in await self.history(instance_id)]

    async def of_kind(self, instance_id: str, kind: type) -> list[Any]:
        """The events of one kind in the current execution."""
        return [event for event in await self.history(instance_id) if isinstance(event, kind)]

    async def inject(self, instance_id: str, event: HistoryEvent, execution_id: str | None = None) -> None:
        """Put mail into an instance's mailbox that no client could send."""
        host = await self.up()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        message = Message(self.new_id(), instance_id, execution_id, event)
        host.engine.submit(Request(Send(message), future.set_result))
        await future
        await self.settle()

    @asynccontextmanager
    async def visitor(self) -> AsyncIterator[TaskHubClient]:
        """A client in another process, which runs no code and so knows no names."""
        engine = Engine(self.store, clock=self.clock, new_id=self.new_id, settings=self.settings)
        running = asyncio.create_task(engine.run())
        await engine.ready()
        yield TaskHubClient(engine)
        running.cancel()
        await asyncio.wait([running])

    @asynccontextmanager
    async def together(self) -> AsyncIterator[TaskHubClient]:
        """A client whose requests the host finds all at once, in their order, when the block has ended."""
        host = await self.up()
        await self.settle()
        host.pause()
        async with self.visitor() as client:
            yield client
        host.go_on()
        await self.settle()

    async def mail(self, instance_id: str) -> Sequence[Message]:
        """What the store keeps in an instance's mailbox."""
        async for each in self.store.dump():
            if each.instance.instance_id == instance_id:
                return each.mail
        return ()

    async def count_rows(self) -> tuple[int, int]:
        """How many instances and how many messages the store keeps."""
        instances = messages = 0
        async for each in self.store.dump():
            instances += 1
            messages += len(each.mail)
        return instances, messages

    @property
    def sdk(self) -> DurableOrchestrationClient:
        """The SDK's client, as a function of the app gets it; a host has to run."""
        return DurableOrchestrationClient(self.client, management_urls(ORIGIN, HUB_NAME, "INSTANCEID"))

    async def http(self, verb: str, path: str, **options: Any) -> httpx2.Response:
        """Send one request to the management API; a path below it, or a whole URL of a link."""
        host = await self.up()
        transport = httpx2.ASGITransport(management_app(host.client, HUB_NAME))
        url = path if path.startswith("http") else f"{API}/{path}"
        async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as http:
            return await http.request(verb, url, **options)

    # ------------------------------------------------------------------ end

    async def verdict(self) -> None:
        """What every case asserts: no engine has failed, and the store holds nothing that could not have come about."""
        for host in self.hosts:
            host.check()
        await self.settle()
        for host in self.hosts:
            if host.is_up:
                host.crash()
                await host.ended()
        report = await check_hub(self.store)
        assert report.findings == (), report.findings


def text(value: Any) -> str | None:
    """A payload as clients send it."""
    return None if value is None else payloads.encode(value)


def value(text: str | None) -> Any:
    """The value that a stored payload stands for."""
    return payloads.decode(text)


def at(seconds: float) -> datetime:
    """The virtual time so long after the case began."""
    return VIRTUAL_EPOCH + timedelta(seconds=seconds)


# ---------------------------------------------------------------------- stores


# Where flushing a file costs nothing, if there is such a place: what a power failure leaves is not the question here.
FOLDER = next((each for each in ("/dev/shm",) if os.access(each, os.W_OK)), None)

STORES = ("memory", "sqlite")
MODES = ("live", "replay")


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[Store]:
    """An empty store."""
    if kind == "memory":
        yield MemoryStore(4)
        return
    folder = Path(tempfile.mkdtemp(prefix="perdure-case-", dir=FOLDER))
    try:
        shutil.copyfile(_empty_hub(), folder / "hub.db")
        store = SqliteStore(folder / "hub.db", inline=True)
        _reopen(store)
        try:
            yield store
        finally:
            at_once(store.close())
    finally:
        shutil.rmtree(folder)


_EMPTY: list[tempfile.TemporaryDirectory[str]] = []


def _empty_hub() -> Path:
    """A file with an empty hub, made once: a copy is a new hub in a tenth of the time."""
    if not _EMPTY:
        _EMPTY.append(tempfile.TemporaryDirectory(prefix="perdure-case-", dir=FOLDER))
        store = SqliteStore(Path(_EMPTY[0].name) / "hub.db", inline=True)
        at_once(store.open())
        at_once(store.close())
    return Path(_EMPTY[0].name) / "hub.db"


def _reopen(store: SqliteStore) -> None:
    """What the death of the process and its restart are to a store."""
    at_once(store.close())
    at_once(store.open())
    assert store._db is not None
    store._db.execute("pragma synchronous = off")  # processes die here, but no machine does


def at_once(operation: Coroutine[Any, Any, Any]) -> Any:
    """The result of a store's operation that awaits nothing."""
    try:
        operation.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a store without threads must not wait inside an operation")


def _replace(settings: Settings, **changes: Any) -> Settings:
    return type(settings)(**{name: getattr(settings, name) for name in settings.__struct_fields__} | changes)


async def gather(*operations: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of several operations at once, exceptions among them."""
    return list(await asyncio.gather(*operations, return_exceptions=True))


def play(kind: str, mode: str, settings: Settings, seed: str, body: Callable[[Hub], Coroutine[Any, Any, None]]) -> None:
    """Run a case on one store in one mode."""

    async def played() -> None:
        async with opened(kind) as store:
            hub = Hub(store, replays=mode == "replay", settings=settings, seed=seed)
            async with asyncio.timeout(LONGEST_WAIT.total_seconds() * 2):
                await body(hub)
                await hub.verdict()

    with asyncio.Runner(loop_factory=CaseLoop) as runner:
        runner.run(played())
