"""Stores behind a web server, asked again where an answer did not come, or broke off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

#: Seconds before another attempt.
_WAITS = (0.5, 1.0, 2.0)
#: Statuses that say "not now"; others stay.
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class PatientStore(WrapperStore[Store]):
    """Another store, to read from; what is not there is not asked for again."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of an object; None if there is none."""
        for wait in _WAITS:
            try:
                return await self._store.get(key, prototype, byte_range)
            except Exception as error:
                # Packages have errors of their own; those with a status have it here.
                if getattr(error, "status", None) not in (None, 0, *_PASSING):
                    raise
            await asyncio.sleep(wait)
        return await self._store.get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Parts of objects."""
        asked: list[Any] = [self.get(key, prototype, part) for key, part in key_ranges]
        return list(await asyncio.gather(*asked))
