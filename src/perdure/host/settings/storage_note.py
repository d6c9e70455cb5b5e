"""What becomes of AzureWebJobsStorage, which names a store that perdure does not use."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

_PREFIX = "azurewebjobsstorage__"


class StorageNote(Struct, frozen=True):
    """One line about AzureWebJobsStorage; `is_replaced` says that the app asked for another store than it gets."""

    text: str
    is_replaced: bool


def storage_note(environ: Mapping[str, str]) -> StorageNote:
    """What becomes of AzureWebJobsStorage: its emulator is replaced silently, an account is named but not used."""
    value = environ.get("AzureWebJobsStorage", "")
    if value.replace(" ", "").casefold().startswith("usedevelopmentstorage=true"):
        return StorageNote("AzureWebJobsStorage is the storage emulator: the embedded store takes its place", False)
    if value:
        account = _account(_connection_members(value), "endpoint") or "a storage account that its text does not name"
        asked = f"AzureWebJobsStorage asks for {account}"
    else:
        account = _account(_identity_members(environ), "serviceuri")
        if account is None:
            return StorageNote("AzureWebJobsStorage is not set: the embedded store is used (--strict refuses)", True)
        asked = f"AzureWebJobsStorage asks for {account} by identity"
    return StorageNote(f"{asked}: it is not used, the embedded store is (--strict refuses)", True)


def _connection_members(connection: str) -> dict[str, str]:
    parts = [part.partition("=") for part in connection.split(";")]
    return {name.strip().casefold(): value.strip() for name, _, value in parts}


def _identity_members(environ: Mapping[str, str]) -> dict[str, str]:
    folded = {name.casefold(): value for name, value in environ.items()}
    return {name.removeprefix(_PREFIX): value for name, value in folded.items() if name.startswith(_PREFIX)}


def _account(members: Mapping[str, str], address: str) -> str | None:
    """Whom the members mean, without anything secret in them.

    Args:
        address: how the names of members end that hold a service's URL.
    """
    if members.get("accountname"):
        return f"the storage account '{members['accountname']}'"
    for service in ("blob", "queue", "table"):
        host = _host_of(members.get(service + address, ""))
        if host:
            return f"the storage account at {host}"
    return None


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # an address that is none names nobody; it is not used anyway
        return None
