"""The words of a prompt and the token positions each of them occupies.

Cross-attention maps exist per token, people ask for them per word. A byte-pair tokenizer cuts a word into
pieces; here the pieces are merged again through the tokenizer's own character offsets, and the merge is
written as a 0/1 matrix whose rows sum to one, so that ``probabilities @ matrix`` still sums to one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.bounded_files import load_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

LEXICON_NAME = "lexicon.json"
START_COLUMN = "[start]"
REST_COLUMN = "[end]"
TEXT_END_COLUMN = "[text end]"
PADDING_COLUMN = "[padding]"


@dataclass(frozen=True, kw_only=True)
class PromptWords:
    """A prompt's words in order; a word is known by its index, so repeated words stay separate."""

    prompt: str
    """The prompt as it was given."""
    words: tuple[str, ...]
    """``W`` words as written, without surrounding punctuation."""
    positions: tuple[tuple[int, ...], ...]
    """For each word the positions of its pieces among the tokens that the image attends to."""
    matrix: torch.Tensor
    """``[L, W + 2]`` fp32 of 0 and 1, one 1 a row: token position to column. The last two columns are the
    start token, and the end token with the padding and with punctuation that belongs to no word; where no token
    starts the text (T5), they are the end token, and the padding with that punctuation."""
    special_columns: tuple[str, str] = (START_COLUMN, REST_COLUMN)
    """Names of the last two columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the matrix's ``W + 2`` columns."""
        return (*self.words, *self.special_columns)

    def indices_of(self, word: str) -> tuple[int, ...]:
        """Every index at which ``word`` stands in the prompt, letter case ignored; empty if it does not."""
        return tuple(index for index, found in enumerate(self.words) if found.lower() == word.lower())


@dataclass(frozen=True, kw_only=True)
class TextRange:
    """Token positions that one text encoder fills; a joint transformer may read several ranges in a row."""

    tokenizer: PreTrainedTokenizerBase | None
    """With character offsets (a fast one), and one end token; None where the encoder is left out (zeros are read)."""
    length: int
    """Number of positions; what the prompt does not fill is padding, which is read too."""
    starts: bool = True
    """Whether a start token comes first, as in CLIP and not in T5."""


def split_words(prompt: str) -> list[tuple[int, int]]:
    """Character spans ``(start, stop)`` of the words: runs without white space, bare of outer punctuation.

    ``"dog,"`` is the word ``dog``; ``"t-shirt"`` is one word; a run of punctuation alone is no word.
    """
    spans = []
    for run in re.finditer(r"\S+", prompt):
        start, stop = run.span()
        while start < stop and _is_punctuation(prompt[start]):
            start += 1
        while start < stop and _is_punctuation(prompt[stop - 1]):
            stop -= 1
        if start < stop:
            spans.append((start, stop))
    return spans


def word_groups(tokenizer: PreTrainedTokenizerBase, prompt: str) -> PromptWords:
    """Split a prompt into words and map every token position to a word, the start or the rest.

    Args:
        tokenizer: a tokenizer with character offsets (a fast one), with one start and one end token.
        prompt: the text; may be empty, then the matrix has the last two columns only.

    Raises:
        ValueError: if the prompt has more tokens than the model reads, or the tokenizer has no offsets.
    """
    return words_of_ranges([TextRange(tokenizer=tokenizer, length=tokenizer.model_max_length)], prompt)


def words_of_ranges(ranges: Sequence[TextRange], prompt: str) -> PromptWords:
    """As :func:`word_groups` for text positions that several encoders fill one after the other.

    A word's column holds its pieces in every range, so that it is what the image pays to the word whichever encoder
    brought it.

    Raises:
        ValueError: as :func:`word_groups`, for any of the ranges.
    """
    import torch

    spans = split_words(prompt)
    starts = any(text_range.starts for text_range in ranges)
    special = (START_COLUMN, REST_COLUMN) if starts else (TEXT_END_COLUMN, PADDING_COLUMN)
    columns: list[int] = []
    for text_range in ranges:
        found = [len(spans) + 1] * text_range.length
        if text_range.tokenizer is not None:
            pieces = _columns_of_pieces(text_range, prompt, spans)
            if text_range.starts:
                found[0] = len(spans)
            elif not starts:
                found[len(pieces)] = len(spans)
            found[text_range.starts : text_range.starts + len(pieces)] = pieces
        columns += found
    return PromptWords(
        prompt=prompt,
        words=tuple(prompt[start:stop] for start, stop in spans),
        positions=tuple(
            tuple(position for position, column in enumerate(columns) if column == word) for word in range(len(spans))
        ),
        matrix=torch.nn.functional.one_hot(torch.tensor(columns), len(spans) + 2).float(),
        special_columns=special,
    )


def word_selection(tokenizer: PreTrainedTokenizerBase, prompt: str, named: Sequence[str]) -> torch.Tensor:
    """Columns for ``named`` words only and one for every other token: ``[L, len(named) + 1]``, rows sum to one.

    A word that stands in the prompt several times is summed.

    Raises:
        ValueError: as :func:`word_groups`, or naming a word that the prompt does not hold.
    """
    import torch

    groups = word_groups(tokenizer, prompt)
    absent = [word for word in named if not groups.indices_of(word)]
    if absent:
        raise ValueError(f"the prompt {prompt!r} does not hold {absent}: expected words of {list(groups.words)}")
    chosen = torch.stack([groups.matrix[:, list(groups.indices_of(word))].sum(dim=1) for word in named], dim=1)
    return torch.cat([chosen, 1 - chosen.sum(dim=1, keepdim=True)], dim=1)


def read_lexicon(folder: Path | str) -> frozenset[str] | None:
    """The closed set of words a tokenizer folder declares in ``lexicon.json``; None where it declares none.

    Raises:
        ValueError: if the file is not a JSON list of strings.
    """
    path = Path(folder) / LEXICON_NAME
    if not path.is_file():
        return None
    try:
        words = load_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{path} does not hold a list of strings")
    return frozenset(word.lower() for word in words)


def unknown_words(lexicon: Path | str | Collection[str], prompt: str) -> list[str]:
    """Words of the prompt that a closed lexicon does not hold, each once, in order of appearance.

    Args:
        lexicon: the known words, or a tokenizer folder; a folder without ``lexicon.json`` knows every word.
        prompt: the text. A hyphenated word is known if it is, or if all its parts are.
    """
    known = read_lexicon(lexicon) if isinstance(lexicon, str | Path) else frozenset(lexicon)
    if known is None:
        return []
    unknown: dict[str, None] = {}
    for start, stop in split_words(prompt):
        word = prompt[start:stop]
        if word.lower() not in known and not known.issuperset(re.split(r"[-'’/]", word.lower())):
            unknown[word] = None
    return list(unknown)


def check_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    """Refuse a prompt with words the tokenizer does not know, by name.

    A word is unknown if the folder the tokenizer came from declares a lexicon without it, or if one of its
    pieces becomes the unknown token (which CLIP would take for the end of the text).

    Raises:
        ValueError: naming every unknown word.
    """
    folder = tokenizer.name_or_path  # empty for a tokenizer that was not read from a folder
    unknown = dict.fromkeys(unknown_words(folder, prompt) if folder else [])
    pieces = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    for piece, (start, stop) in zip(pieces["input_ids"], pieces["offset_mapping"], strict=True):
        if piece == tokenizer.unk_token_id:
            spans = split_words(prompt)
            word = _span_holding(spans, start, stop)
            unknown[prompt[slice(*spans[word])] if word is not None else prompt[start:stop]] = None
    if unknown:
        names = ", ".join(repr(word) for word in unknown)
        raise ValueError(f"the model does not know the word{'s' * (len(unknown) > 1)} {names}")


def _columns_of_pieces(text_range: TextRange, prompt: str, spans: list[tuple[int, int]]) -> list[int]:
    """The column of every piece of the prompt: its word's, or the last one."""
    tokenizer, length = text_range.tokenizer, text_range.length
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer {type(tokenizer).__name__} has no character offsets: use a fast one")
    offsets = _piece_offsets(tokenizer, prompt)
    if len(offsets) > length - 2:
        others = "the start and the end token" if text_range.starts else "the end token and one of padding"
        raise ValueError(
            f"the prompt has {len(offsets)} tokens: expected at most {length - 2} ({length} positions less {others})"
        )
    found = (_span_holding(spans, start, stop) for start, stop in offsets)
    return [len(spans) + 1 if word is None else word for word in found]


def _piece_offsets(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[tuple[int, int]]:
    """Character span of every piece of the prompt, without start and end token."""
    encoded = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return encoded["offset_mapping"]


def _span_holding(spans: list[tuple[int, int]], start: int, stop: int) -> int | None:
    """Index of the span that shares a character with ``start:stop``; None if none does."""
    for index, (span_start, span_stop) in enumerate(spans):
        if start < span_stop and stop > span_start:
            return index
    return None


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")
