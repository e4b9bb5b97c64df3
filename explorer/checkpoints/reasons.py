"""What a library raised, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cannot_draw(model: str, *passed: type[Exception]) -> Iterator[None]:
    """Whatever a library raises while a model draws, as one sentence that names it.

    Args:
        model: name, empty where there is none.
        passed: exceptions that are no failure.

    Raises:
        ValueError: in place of any other exception.
    """
    try:
        yield
    except passed:
        raise
    except Exception as error:  # parts that do not fit fail anywhere inside torch
        raise ValueError(
            f"{f'model {model}' if model else 'the model'} cannot draw this: {reason_of(error)}"
        ) from error


def reason_of(error: BaseException) -> str:
    """The first line of an error, or its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
