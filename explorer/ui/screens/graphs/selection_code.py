"""A selection of pairs as a short text, as the page writes it into addresses (``graph_selection.js``)."""

from __future__ import annotations

import base64
import binascii

import numpy as np

LONGEST_CODE = 10_000
"""Letters: a bit for each of 50,000 pairs is 8,335."""


def decode_rows(code: str, count: int) -> np.ndarray:
    """The ascending rows, int64, that ``code`` selects out of ``count``.

    The first letter says how: ``g`` is followed by the gaps between them, seven bits a byte, the lowest first, ``b`` by
    a bit for each row, the lowest first; both in URL-safe base64 without padding.

    Raises:
        ValueError: if ``code`` is no such text, selects nothing, or rows that are not there.
    """
    wrong = ValueError(f"rows is no selection of these {count} pairs: expected what the page writes into its address")
    if not code or code[0] not in "gb" or len(code) > LONGEST_CODE:
        raise wrong
    try:
        data = base64.b64decode(code[1:] + "=" * (-len(code[1:]) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise wrong from error
    if code[0] == "b":
        rows = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little"))
    else:
        gaps = _numbers(data)
        if max(gaps, default=0) >= count:
            raise wrong
        rows = np.cumsum(np.array(gaps, dtype=np.int64) + 1) - 1
    if not len(rows) or rows[-1] >= count or (data[-1] > 127 and code[0] == "g"):
        raise wrong
    return rows.astype(np.int64)


def _numbers(data: bytes) -> list[int]:
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(value)
            value = shift = 0
    return numbers
