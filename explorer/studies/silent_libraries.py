"""What libraries print on the terminal while models load and read prompts, kept out of a step's own progress."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

TOKENIZERS = "transformers.tokenization_utils_base"
"""Logger of what transformers says of a text."""
TOO_LONG = "Token indices sequence length is longer"


def _tells_more(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(TOO_LONG)


@contextmanager
def silent_libraries() -> Iterator[None]:
    """No bars of diffusers' and transformers' within, and no word of theirs that a prompt is too long, which a step
    says itself and does not draw; afterwards they are as they were."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    shown = [library for library in (diffusers, transformers) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    logging.getLogger(TOKENIZERS).addFilter(_tells_more)
    try:
        yield
    finally:
        logging.getLogger(TOKENIZERS).removeFilter(_tells_more)
        for library in shown:
            library.enable_progress_bar()
