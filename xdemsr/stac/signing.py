"""Rights to read, asked for on the worker, when something is read.

Signatures expire, some within the hour. One in a graph would outlive its worth, and be seen.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from xdemsr.errors import InputError
from xdemsr.stac.hrefs import unsigned
from xdemsr.stac.retrying import PASSING, Patience, UnreachableError, ask

#: From an address to the address that may be read.
Sign = Callable[[str], str]

_PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
#: Seconds before its end that a token is replaced.
_SPARE = 120.0

_AMAZON = {
    "aws-unsigned": (("AWS_NO_SIGN_REQUEST", "YES"),),
    "aws-requester-pays": (("AWS_REQUEST_PAYER", "requester"),),
}


@dataclass(frozen=True)
class Token:
    """A query that lets read, and when it ends (seconds since 1970)."""

    query: str
    end: float


#: Of this process, by token server, account and container; never pickled.
_tokens: dict[tuple[str, str, str], Token] = {}
_locks: dict[tuple[str, str, str], threading.Lock] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class PlanetaryComputer:
    """Signs addresses in Azure's storage with tokens of the Planetary Computer.

    A token is asked for once by each process for each container, and again before it ends.

    Attributes
    ----------
    token_url : str
        The server of tokens; ``/{account}/{container}`` is added.
    host : str
        How the hosts of signed addresses end; others are left as they are.
    patience : Patience
        How often the server is asked again, and how long it may take.
    """

    token_url: str = _PLANETARY_COMPUTER
    host: str = ".blob.core.windows.net"
    patience: Patience = field(default_factory=Patience)

    def __call__(self, href: str) -> str:
        """The address with a token."""
        place = self._place(href)
        if place is None:
            return href
        with _lock:
            lock = _locks.setdefault(place, threading.Lock())
        # Threads that need the same token wait for one request.
        with lock:
            token = _tokens.get(place)
            if token is None or token.end - time.time() < _SPARE:
                token = _tokens[place] = self._asked("/".join(place))
        return f"{unsigned(href)}?{token.query}"

    def forget(self, href: str) -> None:
        """Drop a token that is not accepted."""
        place = self._place(href)
        if place is not None:
            _tokens.pop(place, None)

    def _place(self, href: str) -> tuple[str, str, str] | None:
        parts = urlsplit(href)
        container = parts.path.lstrip("/").partition("/")[0]
        if not parts.netloc.endswith(self.host) or not container:
            return None
        return self.token_url, parts.netloc.partition(".")[0], container

    def _asked(self, url: str) -> Token:
        key = os.environ.get("PC_SDK_SUBSCRIPTION_KEY")
        headers = {"Ocp-Apim-Subscription-Key": key} if key else {}
        for attempt in range(self.patience.retries + 1):
            reply = ask(url, self.patience.timeout, headers)
            if reply.status == 200:
                return _parsed(reply.body, url)
            if reply.status is not None and reply.status not in PASSING:
                raise InputError(
                    f"{url} gives no token: {reply.said}. Is the collection one of the Planetary "
                    "Computer's? For another service say sign=a function of the address."
                )
            if attempt < self.patience.retries:
                self.patience.wait(attempt, reply.retry_after)
        raise UnreachableError(
            f"{url} gave no token in {self.patience.retries + 1} attempts: {reply.said}. Give it "
            "more with retries=..., or come back later."
        )


def _parsed(body: bytes, url: str) -> Token:
    try:
        said = json.loads(body)
        end = datetime.fromisoformat(said["msft:expiry"].replace("Z", "+00:00"))
        return Token(said["token"], end.timestamp())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{url} does not answer with a token and its msft:expiry.") from None


def signer(sign: Any, patience: Patience) -> tuple[Sign | None, tuple[tuple[str, str], ...]]:
    """The function that signs, and GDAL's options, that an argument ``sign`` asks for.

    Raises
    ------
    InputError
        If there is no such way.
    """
    if sign is None or callable(sign):
        return sign, ()
    if sign == "planetary-computer":
        return PlanetaryComputer(patience=patience), ()
    if sign in _AMAZON:
        return None, _AMAZON[sign]
    raise InputError(
        f"sign={sign!r} is not 'planetary-computer', {', '.join(map(repr, _AMAZON))}, or a "
        "function from an address to the address that may be read."
    )
