"""What a library raised, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_OUT_OF_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")
"""In the RuntimeErrors by which libraries say that memory is lacking, beside their own exceptions."""


class NotEnoughMemoryError(ValueError):
    """A device, or the machine, lacks memory: with other settings, or once others gave theirs back, it may suffice."""


@contextmanager
def enough_memory(work: str, expected: str) -> Iterator[None]:
    """A lack of memory as one sentence that says what can be changed. A block, or a decorator of a function.

    Args:
        work: what the memory is for.
        expected: what a user can change.

    Raises:
        NotEnoughMemoryError: in place of what torch and numpy raise for it; any other exception passes.
    """
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _not_enough(work, expected, error) from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise _not_enough(work, expected, error) from error
        raise


def _not_enough(work: str, expected: str, error: BaseException) -> NotEnoughMemoryError:
    return NotEnoughMemoryError(f"memory does not suffice for {work} ({reason_of(error)}): expected {expected}")


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
