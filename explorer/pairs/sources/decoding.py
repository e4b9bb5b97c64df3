"""From a source's record to a usable pair: decoded picture, checked caption, or the reason why not."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from explorer.pairs.quarantine import QuarantinedRecord, Reason, UnusableError
from explorer.pairs.sources.base import Record, picture_format
from explorer.pairs.sources.picture_decoding import Decoded, as_shown

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow knows many more, some of which start other programs; none of them holds a training picture."""
MAX_ASPECT_RATIO = 50
"""Longer side to shorter, at most: a model's own transform resizes the shorter side before it crops the longer one, so
that a thin picture, small as it is, would grow to gigabytes."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a usable pair looks like."""

    min_side: int = 16
    """Pixels of a picture's shorter side, at least."""
    max_pixels: int = 2**26
    """Width times height, at most; the header is believed before anything is decoded."""
    max_caption_characters: int = 10_000
    """Longer captions are some page's text, not a caption."""

    def __post_init__(self) -> None:
        for name, value in self.as_dict().items():
            if value < 1:
                raise ValueError(f"{name} is {value}: expected at least 1")

    def as_dict(self) -> dict[str, int]:
        """JSON-serialisable."""
        return asdict(self)


def check_caption(caption: str, limits: Limits) -> str:
    """The caption as it is.

    Raises:
        UnusableError: if it is blank, too long, or holds what is no Unicode text.
    """
    if not caption.strip():
        raise UnusableError(Reason.EMPTY_CAPTION, f"{len(caption)} blank characters")
    if len(caption) > limits.max_caption_characters:
        expected = f"expected at most {limits.max_caption_characters}"
        raise UnusableError(Reason.LONG_CAPTION, f"{len(caption)} characters: {expected}")
    if "\0" in caption:
        raise UnusableError(Reason.NOT_UTF8, f"a NUL character at character {caption.index(chr(0))}")
    try:
        caption.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnusableError(Reason.NOT_UTF8, f"{error.reason} at character {error.start}") from error
    return caption


def decode_image(image: bytes | np.ndarray | None, limits: Limits) -> Decoded:
    """The picture as a viewer shows it (:func:`~explorer.pairs.sources.picture_decoding.as_shown`); pixels stay as is.

    Raises:
        UnusableError: if there is no picture, it cannot be decoded to its end, it has no defined brightness, or its
            size is outside the limits.
    """
    if isinstance(image, np.ndarray):
        _check_size(image.shape[1], image.shape[0], limits)
        return Decoded(pixels=image)
    if not image:
        raise UnusableError(Reason.NO_IMAGE, "0 bytes")
    try:
        opened = Image.open(io.BytesIO(image), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise UnusableError(Reason.LARGE_IMAGE, str(error)) from error
    # Pictures are untrusted input; Pillow's readers let errors of many kinds out.
    except Exception as error:
        known = picture_format(image)
        detail = f"{known}: expected one of {', '.join(FORMATS)}" if known not in (None, *FORMATS) else _in_words(error)
        raise UnusableError(Reason.UNDECODABLE_IMAGE, detail) from error
    with opened:
        _check_size(opened.width, opened.height, limits)
        try:
            return as_shown(opened)
        except UnusableError:
            raise
        except Exception as error:
            reason = Reason.TRUNCATED_IMAGE if "truncated" in str(error).lower() else Reason.UNDECODABLE_IMAGE
            raise UnusableError(reason, _in_words(error)) from error


def set_aside(record: Record, problem: UnusableError) -> QuarantinedRecord:
    """The quarantine's entry of a record."""
    return QuarantinedRecord(uid=record.uid, place=record.place, reason=problem.reason, detail=problem.detail)


def in_order(
    function: Callable[[Item], Outcome | UnusableError], items: Iterable[Item], *, workers: int, ahead: int
) -> Generator[tuple[Item, Outcome | UnusableError]]:
    """Each item with ``function`` of it, or the :class:`UnusableError` it gave or raised, in the order of ``items``.

    An item for which memory does not suffice is unusable, too: one picture must not end a run over millions.

    ``workers`` threads work up to ``ahead`` items ahead of the consumer (Pillow decodes without holding Python's lock).

    Raises:
        ValueError: if ``workers`` or ``ahead`` is below 1.
    """
    for name, value in (("workers", workers), ("ahead", ahead)):
        if value < 1:
            raise ValueError(f"{name} is {value}: expected at least 1")
    return _in_order(function, items, workers, ahead)


def _in_order(
    function: Callable[[Item], Outcome | UnusableError], items: Iterable[Item], workers: int, ahead: int
) -> Generator[tuple[Item, Outcome | UnusableError]]:
    def guarded(item: Item) -> Outcome | UnusableError:
        try:
            return function(item)
        except UnusableError as problem:
            return problem
        except MemoryError:
            return UnusableError(Reason.LARGE_IMAGE, "memory does not suffice")

    pending: deque[tuple[Item, Any]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for item in items:
            pending.append((item, pool.submit(guarded, item)))
            if len(pending) > ahead:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _check_size(width: int, height: int, limits: Limits) -> None:
    if min(width, height) < limits.min_side:
        raise UnusableError(Reason.SMALL_IMAGE, f"{width} x {height}: expected sides of at least {limits.min_side}")
    if width * height > limits.max_pixels:
        raise UnusableError(Reason.LARGE_IMAGE, f"{width} x {height}: expected at most {limits.max_pixels} pixels")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        expected = f"expected the longer side to be at most {MAX_ASPECT_RATIO} times the shorter"
        raise UnusableError(Reason.LARGE_IMAGE, f"{width} x {height}: {expected}")


def _in_words(error: Exception) -> str:
    # Pillow names the stream object, which differs in every run.
    return type(error).__name__ if "object at 0x" in str(error) else f"{type(error).__name__}: {error}"
