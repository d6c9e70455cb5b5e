"""What a worker process runs: it loads the app, and then the activities that the host sends.

Rule 1: stdin and stdout belong to the host; whatever else writes there is sent to stderr.
Rule 2: it lives as long as its host: when the host's end of the pipe closes, it ends at once.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final, assert_never

from perdure.core.failures import FailureDetails
from perdure.core.records import ActivityTask
from perdure.engine.client import TaskHubClient
from perdure.engine.executor import ActivityResult, Completed, Failed, FunctionNames, Interrupted
from perdure.errors import AppError
from perdure.host.app.app_folder import prepare_path
from perdure.host.app.loading import LoadedApp, load_app
from perdure.host.app.payload_classes import limit_payloads
from perdure.host.invoke import ActivityCall
from perdure.host.sdk.sdk import ClientRequest, chosen_sdk
from perdure.host.user_code import UserCode, is_async
from perdure.host.workers.distant_engine import DistantEngine
from perdure.host.workers.frames import (
    Answer,
    Begin,
    Ended,
    FrameWriter,
    Ready,
    Refused,
    Setup,
    Stop,
    ToWorker,
    encode,
    frames_to_worker,
)
from perdure.host.workers.output import NumberedInvocation, WorkerOutput

_HOST_IS_GONE: Final = 1


def main() -> None:
    """Serve the host at the other end of stdin and stdout until it says stop, or goes."""
    faulthandler.enable()  # a segmentation fault then names the line of Python that led to it
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # meant for the host, which drains and then says stop
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    frames, writer = _pipes()
    setup = next(iter(frames), None)
    if not isinstance(setup, Setup):
        os._exit(_HOST_IS_GONE)
    output = WorkerOutput(writer.put)
    output.install(setup.log_level)
    try:
        worker = Worker(setup, writer, output)
    except AppError as error:
        writer.put(encode(Refused((error.headline, *error.lines))))
        return
    output.is_silent = False
    writer.put(encode(Ready()))
    if not worker.serve(frames):
        os._exit(_HOST_IS_GONE)
    worker.stop()
    # What libraries find unclosed while the interpreter ends, such as the official SDK's HTTP session, is no news.
    logging.disable()


def _pipes() -> tuple[Iterable[ToWorker], FrameWriter]:
    """The host's two pipes, out of the reach of user code: stdin is empty from now on, and stdout is stderr."""
    to_worker, from_worker = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return frames_to_worker(to_worker), FrameWriter(from_worker)


class Worker:
    """The app's activities, in this process.

    Raises:
        AppError: the app cannot be loaded.
    """

    def __init__(self, setup: Setup, writer: FrameWriter, output: WorkerOutput) -> None:
        self._writer = writer
        self._output = output
        limit_payloads(os.environ)
        self._engine = DistantEngine(writer.put, setup.settings, FunctionNames())
        app = _loaded(setup, self._engine)
        self._engine.functions = FunctionNames(
            frozenset(app.orchestrators), frozenset(app.activities), frozenset(app.entities)
        )
        self._activities = {name.casefold(): activity for name, activity in app.activities.items()}
        self._async_activities = frozenset(each.name for each in app.activities.values() if is_async(each.function))
        self._user_code = UserCode(threads=setup.threads, concurrency=setup.concurrency, time_limit=setup.time_limit)
        self._user_code.start()

    def serve(self, frames: Iterable[ToWorker]) -> bool:
        """Do what the host says, until that is to stop; False if the host has gone without a word."""
        for frame in frames:
            match frame:
                case Begin():
                    self._begin(frame)
                case Answer():
                    self._engine.answered(frame)
                case Stop():
                    return True
                case Setup():
                    raise AssertionError("a worker is set up once")
                case _:
                    assert_never(frame)
        return False

    def _begin(self, begin: Begin) -> None:
        task = ActivityTask("", begin.instance_id, "", begin.number, begin.name, begin.input)
        activity = self._activities.get(begin.name.casefold())
        if activity is None:
            message = f"Activity '{begin.name}' is no longer in the app. Its code has changed: restart the host."
            self._finished(task, Failed(FailureDetails("ActivityNotFound", message, is_non_retriable=True)))
            return
        invocation = NumberedInvocation(activity.name, begin.instance_id, number=begin.number)
        call = ActivityCall(activity, task, self._finished, invocation)
        self._user_code.submit(call, is_async=activity.name in self._async_activities)

    def _finished(self, task: ActivityTask, result: ActivityResult) -> None:
        """Called where the activity ran."""
        self._output.ended(task.task_id)
        match result:
            case Completed(result=text):
                frame = Ended(task.task_id, text)
            case Failed(failure=failure):
                frame = Ended(task.task_id, failure=failure)
            case Interrupted():
                raise AssertionError("who is interrupted cannot say so")
            case _:
                assert_never(result)
        self._writer.put(encode(frame))

    def stop(self) -> None:
        """Cancel what runs, and end."""
        self._user_code.stop()


def _loaded(setup: Setup, engine: DistantEngine) -> LoadedApp:
    folder = Path(setup.folder)
    prepare_path(folder)  # before looking for the app's SDK, which may be among the app's packages
    sdk, hub = chosen_sdk(setup.sdk), TaskHubClient(engine)
    return load_app(
        folder,
        os.environ,
        setup.route_prefix,
        setup.functions,
        setup.hub,
        sdk,
        lambda function, is_text: sdk.client(ClientRequest(function, is_text, hub, engine.links, engine.binding_text)),
    )


if __name__ == "__main__":
    main()
