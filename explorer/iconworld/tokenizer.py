"""A CLIP tokenizer whose byte-pair vocabulary is made from the grammar of a small world."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel

from explorer.attention.words import LEXICON_NAME

START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(word_counts: dict[str, int], *, merges: int, context_length: int) -> Any:
    """A ``CLIPTokenizer`` with ``merges`` byte-pair merges learned from ``word_counts``.

    Fewer merges than the words need leave the rarer words in several pieces, as in CLIP's own vocabulary. Every
    single character is in the vocabulary, so that any text can be encoded.

    Args:
        word_counts: lower-case words and how often each occurs.
        context_length: ``model_max_length``: tokens of a prompt, start and end included.
    """
    from transformers import CLIPTokenizer

    characters = sorted(ByteLevel.alphabet())
    learned = _learn_merges(word_counts, merges)
    tokens = [*characters, *(f"{character}</w>" for character in characters)]
    tokens += [left + right for left, right in learned]
    # CLIP's text tower pools at the highest id, so the end token comes last.
    tokens = [*dict.fromkeys(tokens), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=learned, model_max_length=context_length)


def _learn_merges(word_counts: dict[str, int], merges: int) -> list[tuple[str, str]]:
    """Byte-pair encoding (Sennrich et al. 2016) with ties broken alphabetically, so that it is deterministic."""
    words = {(*word[:-1], f"{word[-1]}</w>"): count for word, count in word_counts.items()}
    learned = []
    for _ in range(merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for pieces, count in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        words = {_merge(pieces, best): count for pieces, count in words.items()}
    return learned


def _merge(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    position = 0
    while position < len(pieces):
        if pieces[position : position + 2] == pair:
            merged.append(pair[0] + pair[1])
            position += 2
        else:
            merged.append(pieces[position])
            position += 1
    return tuple(merged)


def save_tokenizer(tokenizer: Any, lexicon: list[str], folder: Path) -> None:
    """Save in transformers' format, with the closed list of words the model was trained on beside it."""
    tokenizer.save_pretrained(folder)
    (Path(folder) / LEXICON_NAME).write_text(json.dumps(sorted(lexicon)) + "\n", encoding="utf-8")


def encode(tokenizer: Any, captions: list[str]) -> Any:
    """Token ids int64 ``[n, context_length]``, padded with the end token.

    Raises:
        ValueError: naming the first caption that is longer than the context.
    """
    ids = tokenizer(captions, padding="max_length", max_length=tokenizer.model_max_length, truncation=False).input_ids
    for caption, row in zip(captions, ids, strict=True):
        if len(row) > tokenizer.model_max_length:
            raise ValueError(f"{caption!r} has {len(row)} tokens: expected at most {tokenizer.model_max_length}")
    return torch.tensor(ids)
