"""A word of a prompt replaced by random rows of the token dictionary, before the text encoder reads it.

So a semantic sensitivity map is defined (its paper's Eq. 6): the text encoder's self-attention then spreads the change
over all positions, as it spreads the word. Every text encoder of a pipeline is given the change.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.attention.prompts import encoder_ranges
from explorer.attention.words import PromptWords, words_of_ranges

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What takes the place of a word in one text encoder."""

    positions: tuple[int, ...]
    """Of the word's pieces among the tokens of this encoder."""
    rows: torch.Tensor
    """int64 ``[draws, pieces]``: rows of the encoder's token dictionary."""


def concept_replacements(pipeline: DiffusionPipeline, prompt: str, noun: str, *, draws: int, seed: int
                         ) -> dict[str, Replacement]:  # fmt: skip
    """Random rows in place of a concept's words, for each text encoder by name.

    Raises:
        ValueError: if the prompt does not hold the noun, or has more tokens than an encoder reads.
    """
    return _replacements(pipeline, prompt, noun, _concept_positions, draws, seed)


def neighbour_replacements(pipeline: DiffusionPipeline, prompt: str, noun: str, *, draws: int, seed: int
                           ) -> dict[str, Replacement] | None:  # fmt: skip
    """The same for the word right before the concept (its article, or ``of``); None where the prompt begins with it."""
    return _replacements(pipeline, prompt, noun, _positions_before, draws, seed)


def _replacements(pipeline: Any, prompt: str, noun: str, positions_of: Any, draws: int, seed: int) -> Any:
    found = {}
    for name, text_range in encoder_ranges(pipeline).items():
        words = words_of_ranges([text_range], prompt)
        if not (indices := words.indices_of(noun)):
            raise ValueError(f"the prompt {prompt!r} does not hold {noun!r}: expected words of {list(words.words)}")
        if not (positions := positions_of(words, indices)):
            return None
        rows = dictionary_rows(text_range.tokenizer, prompt, (draws, len(positions)), seed)
        found[name] = Replacement(positions=positions, rows=rows)
    return found


def _concept_positions(words: PromptWords, indices: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(position for index in indices for position in words.positions[index])


def _positions_before(words: PromptWords, indices: tuple[int, ...]) -> tuple[int, ...]:
    return words.positions[min(indices) - 1] if min(indices) else ()


def dictionary_rows(tokenizer: PreTrainedTokenizerBase, prompt: str, shape: tuple[int, int], seed: int) -> torch.Tensor:
    """Rows of a token dictionary drawn evenly, int64 of ``shape``; start, end, padding and the like are never drawn.

    They follow from seed, prompt and the size of the dictionary alone: every model, and every text encoder with the
    same dictionary, gets the same ones, whatever else is measured beside it.
    """
    tokens = np.setdiff1d(np.arange(tokenizer.vocab_size), tokenizer.all_special_ids)
    generator = np.random.default_rng([seed, zlib.crc32(prompt.encode()), tokenizer.vocab_size])
    return torch.from_numpy(tokens[generator.integers(len(tokens), size=shape)])


@contextmanager
def replaced(pipeline: DiffusionPipeline, replacements: dict[str, Replacement]) -> Iterator[None]:
    """Within the block the text encoders read row i of a batch with draw i in the word's place.

    A batch is one prompt as often as there are draws. Token ids stay as they are: an encoder that looks for the end of
    the text among them finds it where it was.
    """
    handles = []
    try:
        for name, replacement in replacements.items():
            for embedding in _dictionaries(getattr(pipeline, name)):
                handles.append(embedding.register_forward_hook(_hook(replacement)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _dictionaries(encoder: torch.nn.Module) -> list[torch.nn.Embedding]:
    """The token dictionary, under every name: T5 has two modules for one, and reads through the second."""
    weight = encoder.get_input_embeddings().weight
    return [each for each in encoder.modules() if isinstance(each, torch.nn.Embedding) and each.weight is weight]


def _hook(replacement: Replacement) -> Any:
    def put(embedding: Any, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed[:, list(replacement.positions)] = embedding.weight[replacement.rows.to(output.device)].to(output.dtype)
        return changed

    return put
