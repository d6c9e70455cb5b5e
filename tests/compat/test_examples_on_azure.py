"""The example for the official host is answered there."""

import json
from typing import Any

from examples_kit import program


def event(kind: int, **members: Any) -> dict[str, Any]:
    return {"EventId": -1, "IsPlayed": False, "Timestamp": "2026-01-02T03:04:05Z", "EventType": kind, **members}


def test_a_delivery_and_one_that_fails():
    began = [event(12), event(0, Name="deliver", Input='"\\"tea\\""')]
    failed = event(6, TaskScheduledId=0, Reason="Activity function 'pack' failed:  OSError: no box", Details="{}")
    packed = event(5, TaskScheduledId=0, Result='"a parcel with tea"')
    failures = [failed, event(11, TimerId=1)]
    failures += [{**each, "TaskScheduledId": 2, "TimerId": 3} for each in failures]
    failures += [{**each, "TaskScheduledId": 4, "TimerId": 5} for each in failures[:2]]

    with program("on_azure") as module:
        handle = module.deliver.build().get_user_function()

        def output(history: list[dict[str, Any]]) -> Any:
            sent = {"history": history, "input": '"tea"', "instanceId": "i", "isReplaying": False}
            return json.loads(handle(json.dumps({**sent, "parentInstanceId": None}))).get("output")

        assert output(began) is None
        assert output([*began, event(4), event(13), event(12), packed]) == "a parcel with tea"
        assert output([*began, event(13), event(12), *failures]) == "not delivered: OSError"
        assert module.pack.build().get_user_function()("tea") == "a parcel with tea"
