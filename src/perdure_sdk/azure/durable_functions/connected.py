"""The task hubs that run in this process, which its functions need not ask over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from azure.durable_functions.client_bindings import DurableOrchestrationBindings

if TYPE_CHECKING:
    from azure.durable_functions.client import Links, TaskHub

_hubs: WeakValueDictionary[tuple[str | None, str], TaskHub] = WeakValueDictionary()
_links: WeakKeyDictionary[TaskHub, Links] = WeakKeyDictionary()


def connect(text: str, hub: TaskHub, links: Links) -> None:
    """Told by a host in this process: clients made from the binding `text` are to call `hub`, while there is one.

    Args:
        text: what functions get.
        hub: the task hub.
        links: the management URLs that such a client hands out.
    """
    _hubs[_key(DurableOrchestrationBindings.from_json(text))] = hub
    _links[hub] = links


def connected(binding: DurableOrchestrationBindings) -> tuple[TaskHub, Links] | None:
    """The task hub of this process that a binding means, and its links; None if it runs elsewhere."""
    hub = _hubs.get(_key(binding))
    return None if hub is None else (hub, _links[hub])


def _key(binding: DurableOrchestrationBindings) -> tuple[str | None, str]:
    return binding.rpc_base_url, binding.task_hub_name.casefold()
