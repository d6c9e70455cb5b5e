"""Who may call what of a host, judged by the key that a caller shows.

Source: the Functions host for levels, keys and where they stand in a request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from perdure.host.http.keys import FIRST_KEYS, KEY_BYTES, LINKS, MANAGEMENT, MASTER, Keys, function_keys, is_same_secret
from perdure.host.settings.setting import TimeLimit

if TYPE_CHECKING:
    from starlette.types import Scope

ANONYMOUS, FUNCTION, ADMIN = LEVELS = ("anonymous", "function", "admin")

LIFETIME_SETTING: Final = "PERDURE_LINKS_EXPIRE_AFTER"

# People follow links days and weeks after they got them; one that nobody needed for a season is more likely a leak.
LINK_LIFETIME: Final = timedelta(days=90)

# Keys of the management API by what is asked for; whoever may do more may do less, too.
_MANAGING: Final = {"read": ("read/", "operate/", "system/"), "operate": ("operate/", "system/"), "admin": ("system/",)}


class Access:
    """Opens functions, management API and admin endpoints to those who have a key for them.

    Attributes:
        keys: the app's.
        token: opens everything while this host runs; the app's own tools find it beside the app.
    """

    def __init__(self, keys: Keys) -> None:
        self.token = secrets.token_urlsafe(KEY_BYTES)
        self.keys = keys

    @property
    def rpc_segment(self) -> str:
        """What comes first below the local mount when the app's own processes call it."""
        return f"key={self.token}"

    def prepare(self, functions: Iterable[str]) -> None:
        """Make the keys that are missing, one for each of these functions among them.

        Raises:
            AppError: keys cannot be kept beside the app.
        """
        self.keys.ensure([*FIRST_KEYS, *(f"{function_keys(each)}default" for each in functions)])

    def may_call(self, scope: Scope, function: str, level: str) -> bool:
        """Whether this request may call a function of that level."""
        if level == ANONYMOUS:
            return True
        key = presented_key(scope)
        if level == FUNCTION:
            names = [*self.keys.names("host/"), *self.keys.names(function_keys(function))]
            return self._opens(key, names)
        return self._opens(key, [])

    def may_administer(self, scope: Scope) -> bool:
        """Whether this request may use the admin endpoints."""
        return self._opens(presented_key(scope), [])

    def may_manage(self, key: str, right: str = "admin") -> bool:
        """Whether a key opens those parts of the management API that need this right.

        Args:
            right: `read` to look, `operate` to start and to steer, `admin` to remove too, and so for everything.
        """
        return self._opens(key, [name for prefix in _MANAGING[right] for name in self.keys.names(prefix)])

    def signature(self, message: bytes) -> bytes:
        """What only hosts of this app can make of a message; another one after the key for links was renewed."""
        return hmac.digest(self._secret(LINKS).encode(), message, hashlib.sha256)

    def management_key(self) -> str:
        """The system key of the management API, for code of the app itself."""
        return self._secret(MANAGEMENT)

    def _secret(self, name: str) -> str:
        self.keys.ensure([name])  # somebody may have removed the file
        return self.keys.values()[name]

    def _opens(self, key: str, names: list[str]) -> bool:
        is_key = self.keys.matches([MASTER, *names], key)
        return is_same_secret(key, self.token) or is_key


def link_lifetime(environ: Mapping[str, str]) -> tuple[timedelta | None, list[str]]:
    """How long links get in, from the app's settings, None for ever; and what is wrong with these."""
    text = environ.get(LIFETIME_SETTING)
    if text is None:
        return LINK_LIFETIME, []
    try:
        return TimeLimit().read(text), []
    except ValueError as error:
        return LINK_LIFETIME, [f"{LIFETIME_SETTING} is '{text}', but must be {error}; links get in for 90 days"]


def presented_key(scope: Scope) -> str:
    """The key in a request: in the header `x-functions-key`, or else in the query as `code`; or an empty text."""
    for name, value in scope["headers"]:
        if name == b"x-functions-key" and value:
            return value.decode("latin-1")
    query: bytes = scope["query_string"]
    for name, value in parse_qsl(query.decode("utf-8", "replace")):
        if name.lower() == "code":
            return value
    return ""
