"""Live results in memory: the newest, each under a name that nobody can guess."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.generation.columns import ComparisonColumn
    from explorer.ui.shell.open_study import OpenStudy

MAX_RESULTS = 24
MAX_RESULT_BYTES = 256 * 2**20
FORGOTTEN = "This live result is no longer in memory: press Generate to make it again."


@dataclass(frozen=True, kw_only=True)
class _Kept:
    payload: dict[str, Any]
    drawn: tuple[OpenStudy, ComparisonColumn]
    size: int
    """In bytes, about."""


class KeptResults:
    """Kept on the models' thread, read on any."""

    def __init__(self):
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, payload: dict[str, Any], drawn: tuple[OpenStudy, ComparisonColumn]) -> str:
        """Store a result under a token, which is returned; the oldest make room, by their number and by their size.

        Args:
            drawn: the study and the column, without its attention.
        """
        token = secrets.token_urlsafe(16)
        size = _characters(payload) + drawn[1].latents.samples.nbytes
        self._kept[token] = _Kept(payload=payload, drawn=drawn, size=size)
        while len(self) > MAX_RESULTS or sum(kept.size for kept in self._kept.values()) - size > MAX_RESULT_BYTES:
            self._kept.popitem(last=False)
        return token

    def payload(self, token: str) -> dict[str, Any]:
        """What the page draws of the column stored under ``token``.

        Raises:
            ValueError: if it is unknown or has made room for newer ones.
        """
        return self._of(token).payload

    def drawn(self, token: str) -> tuple[OpenStudy, ComparisonColumn]:
        """The study and the column, without its attention, that were stored under ``token``.

        Raises:
            ValueError: as :meth:`payload`.
        """
        return self._of(token).drawn

    def _of(self, token: str) -> _Kept:
        # Asked for once: the models' thread may make room between two looks.
        if (kept := self._kept.get(token)) is None:
            raise ValueError(FORGOTTEN)
        return kept


def _characters(value: Any) -> int:
    """About the bytes of a result, nearly all of which are in its texts."""
    if isinstance(value, str):
        return len(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 8 + sum(map(_characters, parts))
