"""Trying again: what may pass, how long to wait, and when to give up."""

from __future__ import annotations

import random
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError

from xdemsr.errors import InputError

#: Statuses that say "not now".
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Statuses that say "not you", or "not with this signature".
REFUSED = frozenset({401, 403})

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 30.0
#: Bytes that are looked at. A token has some hundreds; a server may send a whole raster for one.
_LONGEST_BODY = 1 << 16


class UnreachableError(OSError, InputError):
    """What should be there did not come, however often it was asked for; it may later."""


@dataclass(frozen=True)
class Patience:
    """How often something is tried again, and how long an answer may take.

    Attributes
    ----------
    retries : int
        Attempts after the first.
    timeout : float
        Seconds that one request may take.
    """

    retries: int = 5
    timeout: float = 60.0

    def wait(self, attempt: int, at_least: float = 0.0) -> None:
        """Sleep before the next attempt: twice as long each time, and never all in step."""
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)
        # Workers that were refused together would otherwise come back together.
        time.sleep(max(random.uniform(0.5, 1.0) * longest, min(at_least, _LONGEST_WAIT)))


@dataclass(frozen=True)
class Reply:
    """What a web server answered: a status, or None and what went wrong before there was one."""

    status: int | None
    body: bytes = b""
    reason: str = ""
    retry_after: float = 0.0

    @property
    def said(self) -> str:
        """For messages."""
        return self.reason if self.status is None else f"HTTP status {self.status}"


def ask(url: str, timeout: float, headers: Mapping[str, str] | None = None) -> Reply:
    """Ask a web server once; nothing is raised, and nothing of the URL's query is in the reply."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Reply(answer.status, answer.read(_LONGEST_BODY))
    except HTTPError as error:
        with error:
            return Reply(error.code, retry_after=_seconds(error.headers.get("Retry-After")))
    except URLError as error:
        return Reply(None, reason=str(error.reason))
    except (OSError, HTTPException) as error:
        return Reply(None, reason=str(error) or type(error).__name__)


def _seconds(said: str | None) -> float:
    return float(said) if said is not None and said.isdigit() else 0.0
