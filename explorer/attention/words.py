"""The words of a prompt and the token positions each of them occupies, as the text encoder reads it.

Cross-attention maps exist per token, people ask for them per word. A byte-pair tokenizer cuts a word into
pieces; here the pieces are merged again through the tokenizer's own character offsets, and the merge is
written as a 0/1 matrix whose rows sum to one, so that ``probabilities @ matrix`` still sums to one. Tokens are counted
as the pipeline hands them to the text encoder: with the further vectors of textual inversions, and padded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.attention.token_words import Piece, Word, find_words, pieces_of, word_of_each
from explorer.attention.word_boundaries import split_words
from explorer.core.bounded_files import load_json, printable

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

LEXICON_NAME = "lexicon.json"
START_COLUMN = "[start]"
REST_COLUMN = "[end]"
TEXT_END_COLUMN = "[text end]"
PADDING_COLUMN = "[padding]"
SHOWN = 80
"""So much of a prompt that is too long is quoted."""
MAX_POSITIONS = 1 << 16
"""More than any text encoder reads; a tokenizer that was saved without a length names 1e30."""


@dataclass(frozen=True, kw_only=True)
class PromptWords:
    """A prompt's words in order; a word is known by its index, so repeated words stay separate."""

    prompt: str
    """The prompt as it was given."""
    words: tuple[str, ...]
    """``W`` words as written, without punctuation (:func:`~explorer.attention.word_boundaries.split_words`). A textual
    inversion is one word by its name (``<cat>``), however many vectors it has."""
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
        """Every index at which ``word`` stands in the prompt, letter case ignored; empty if it does not.

        What is several words (``red hair``, ``帽子``) has the indices of all of them, wherever they stand together.
        """
        return word_indices(self.words, word)


def word_indices(words: Sequence[str], word: str) -> tuple[int, ...]:
    """As :meth:`PromptWords.indices_of`, of a prompt of which the words alone are known."""
    found, wanted = [known.lower() for known in words], [word.lower()]
    if wanted[0] not in found:
        wanted = [word[start:stop].lower() for start, stop in split_words(word)]
    size = len(wanted)
    starts = [at for at in range(len(found) - size + 1) if size and found[at : at + size] == wanted]
    return tuple(dict.fromkeys(at + offset for at in starts for offset in range(size)))


@dataclass(frozen=True, kw_only=True)
class TextRange:
    """Token positions that one text encoder fills; a joint transformer may read several ranges in a row."""

    tokenizer: PreTrainedTokenizerBase | None
    """With character offsets (a fast one), and one end token; None where the encoder is left out (zeros are read)."""
    length: int
    """Number of positions; what the prompt does not fill is padding, which is read too."""
    starts: bool = True
    """Whether a start token comes first, as in CLIP and not in T5."""
    beside: PreTrainedTokenizerBase | None = None
    """Tokenizer of a second encoder, whose embedding lies beside the first's at the same positions (SDXL, SD3)."""
    expands: bool = True
    """Whether the pipeline puts the further vectors of a textual inversion into the prompt; SD3's does not."""

    @property
    def tokenizers(self) -> tuple[PreTrainedTokenizerBase, ...]:
        """Those that there are."""
        return tuple(tokenizer for tokenizer in (self.tokenizer, self.beside) if tokenizer is not None)


def words_of_ranges(ranges: Sequence[TextRange], prompt: str) -> PromptWords:
    """Split a prompt into words and map every token position to a word, the start or the rest.

    A word's column holds its pieces in every range, so that it is what the image pays to the word whichever encoder
    brought it. Words that share a piece are one.

    Args:
        ranges: text positions that one or several encoders fill, one after the other.
        prompt: the text; may be empty, then the matrix has the last two columns only.

    Raises:
        ValueError: if the prompt has more tokens than a range holds, a tokenizer has no offsets, or two encoders that
            lie side by side read different words at one position.
    """
    import torch

    text = _text_read(ranges, prompt)
    for text_range in ranges:
        _check_length(text_range, text)
    words = find_words([tokenizer for text_range in ranges for tokenizer in text_range.tokenizers], text)
    starts = any(text_range.starts for text_range in ranges)
    columns: list[int] = []
    for text_range in ranges:
        found = [_columns(text_range, tokenizer, text, words, starts) for tokenizer in text_range.tokenizers]
        if any(other != found[0] for other in found):
            raise _cut_differently(prompt)
        columns += found[0] if found else [len(words) + 1] * text_range.length
    # What every tokenizer drops is read by nobody, and no word.
    read = sorted(set(columns) & set(range(len(words))))
    column_of = {word: column for column, word in enumerate([*read, len(words), len(words) + 1])}
    columns = [column_of[column] for column in columns]
    return PromptWords(
        prompt=prompt,
        words=tuple(words[word].name for word in read),
        positions=tuple(
            tuple(position for position, column in enumerate(columns) if column == word) for word in range(len(read))
        ),
        matrix=torch.nn.functional.one_hot(torch.tensor(columns), len(read) + 2).float(),
        special_columns=(START_COLUMN, REST_COLUMN) if starts else (TEXT_END_COLUMN, PADDING_COLUMN),
    )


def word_selection(ranges: Sequence[TextRange], prompt: str, named: Sequence[str]) -> torch.Tensor:
    """Columns for ``named`` words only and one for every other token: ``[L, len(named) + 1]``, rows sum to one.

    A word that stands in the prompt several times is summed.

    Raises:
        ValueError: as :func:`words_of_ranges`, or naming a word that the prompt does not hold.
    """
    import torch

    groups = words_of_ranges(ranges, prompt)
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
    return [] if known is None else _unknown(known, (prompt[start:stop] for start, stop in split_words(prompt)))


def check_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    """Refuse a prompt with words the tokenizer does not know, by name.

    A word is unknown if the folder the tokenizer came from declares a lexicon without it, or if one of its
    pieces becomes the unknown token (which CLIP would take for the end of the text). A token that was added to the
    tokenizer, as a textual inversion is, is known.

    Raises:
        ValueError: naming every unknown word.
    """
    words, pieces = find_words([tokenizer], prompt), pieces_of(tokenizer, prompt)
    folder = tokenizer.name_or_path  # empty for a tokenizer that was not read from a folder
    lexicon = read_lexicon(folder) if folder else None
    written = (word.name for word in words if not word.added)
    unknown = dict.fromkeys([] if lexicon is None else _unknown(lexicon, written))
    for piece, word in zip(pieces, word_of_each(pieces, words), strict=True):
        sign = prompt[piece.start : piece.stop]
        if piece.id == tokenizer.unk_token_id and sign != tokenizer.unk_token:
            unknown[sign if word is None else words[word].name] = None
    if unknown:
        names = ", ".join(repr(word) for word in unknown)
        raise ValueError(f"the model does not know the word{'s' * (len(unknown) > 1)} {names}")


def _unknown(known: frozenset[str], words: Iterable[str]) -> list[str]:
    lacking = (w for w in words if w.lower() not in known and not known.issuperset(re.split(r"[-'’]", w.lower())))
    return list(dict.fromkeys(lacking))


def _text_read(ranges: Sequence[TextRange], prompt: str) -> str:
    """What the tokenizers are given: the prompt with the further vectors of textual inversions (Gal et al. 2022)."""
    from diffusers.loaders import TextualInversionLoaderMixin

    converter = TextualInversionLoaderMixin()
    texts = {
        converter.maybe_convert_prompt(prompt, tokenizer) if text_range.expands else prompt
        for text_range in ranges
        for tokenizer in text_range.tokenizers
    }
    if len(texts) > 1:
        raise _cut_differently(prompt)
    return texts.pop() if texts else prompt


def _cut_differently(prompt: str) -> ValueError:
    return ValueError(f"the model's two CLIP tokenizers cut {prompt!r} differently: expected the same pieces")


def _check_length(text_range: TextRange, text: str) -> None:
    length = text_range.length
    if length > MAX_POSITIONS:
        raise ValueError(f"the tokenizer's length is {length:g}: expected at most {MAX_POSITIONS} tokens")
    for tokenizer in text_range.tokenizers:
        if (count := len(pieces_of(tokenizer, text))) > length - 2:
            others = "the start and the end token" if text_range.starts else "the end token and one of padding"
            raise ValueError(
                f"the prompt {printable(text, SHOWN)!r} has {count} tokens: expected at most {length - 2} ({length} "
                f"positions less {others})"
            )


def _columns(
    text_range: TextRange, tokenizer: PreTrainedTokenizerBase, text: str, words: list[Word], starts: bool
) -> list[int]:
    """The column of every position of a range: its word's; the last but one of the start, the last of the rest.

    Args:
        starts: whether any of the model's ranges has a start token; where none has, the end token takes its column.
    """
    # As the pipelines call it.
    encoded = tokenizer(text, padding="max_length", max_length=text_range.length, truncation=True,
                        return_offsets_mapping=True, return_attention_mask=True)  # fmt: skip
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    pieces = [Piece(id=token, start=start, stop=stop) for token, (start, stop) in pairs]
    marks = (tokenizer.bos_token, tokenizer.eos_token)
    columns = [
        len(words) + 1 if word is None or text[piece.start : piece.stop] in marks else word
        for piece, word in zip(pieces, word_of_each(pieces, words), strict=True)
    ]  # a user may write "<|endoftext|>": it is read as the end
    read = [position for position, unpadded in enumerate(encoded["attention_mask"]) if unpadded]
    if text_range.starts or not starts:
        columns[read[0] if text_range.starts else read[-1]] = len(words)
    return columns
