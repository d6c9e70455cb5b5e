"""An official import path; nothing of ours is defined here."""

from azure.durable_functions.routines import LongTimerTask as LongTimerTask
from azure.durable_functions.routines import RetryAbleTask as RetryAbleTask

from perdure.core.tasks import AtomicTask as AtomicTask
from perdure.core.tasks import CompoundTask as CompoundTask
from perdure.core.tasks import Task as TaskBase
from perdure.core.tasks import TaskAll as WhenAllTask
from perdure.core.tasks import TaskAny as WhenAnyTask
from perdure.core.tasks import TaskState as TaskState
from perdure.core.tasks import TimerTask as TimerTask

__all__ = [
    "AtomicTask",
    "CompoundTask",
    "LongTimerTask",
    "RetryAbleTask",
    "TaskBase",
    "TaskState",
    "TimerTask",
    "WhenAllTask",
    "WhenAnyTask",
]
