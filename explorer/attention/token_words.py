"""Which of a text's words each of a tokenizer's pieces belongs to, through the tokenizer's own character offsets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from explorer.attention.word_boundaries import split_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A token and the characters it stands for; none for what the tokenizer puts around the text."""

    id: int
    """In the vocabulary."""
    start: int
    """First character."""
    stop: int
    """One behind the last character."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word and the characters it covers."""

    name: str
    """As written."""
    start: int
    """First character."""
    stop: int
    """One behind the last character."""
    added: bool = False
    """Whether it is a token that was added to the tokenizer, a textual inversion's."""


def pieces_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[Piece]:
    """The text's tokens, without start and end.

    Raises:
        ValueError: if the tokenizer has no character offsets.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer {type(tokenizer).__name__} has no character offsets: use a fast one")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [Piece(id=token, start=start, stop=stop) for token, (start, stop) in pairs]


def find_words(tokenizers: Sequence[PreTrainedTokenizerBase], text: str) -> list[Word]:
    """The text's words in order: tokens that were added, and between them what script and spaces part.

    Neighbours that share a piece of any tokenizer are one word: their maps cannot be told apart.

    Args:
        tokenizers: those that read the text.
        text: as they read it, with the further vectors of textual inversions.
    """
    cut = [(tokenizer, pieces_of(tokenizer, text)) for tokenizer in tokenizers]
    added = {word.start: word for tokenizer, pieces in cut for word in _added_words(tokenizer, pieces)}
    words, end = [], 0
    for start in [*sorted(added), len(text)]:
        words += [Word(name=text[a:b], start=a, stop=b) for a, b in split_words(text, end, start)]
        if start in added and start >= end:
            words.append(added[start])
            end = added[start].stop
    for _, pieces in cut:
        words = _joined(words, pieces, text)
    return words


def word_of_each(pieces: Sequence[Piece], words: Sequence[Word]) -> list[int | None]:
    """For every piece the index of the word that it shares a character with; None for no word."""
    starts = [word.start for word in words]
    found: list[int | None] = []
    for piece in pieces:
        at = bisect_right(starts, piece.stop - 1) - 1  # the last word that begins before the piece ends
        inside = at >= 0 and piece.start < min(piece.stop, words[at].stop)
        found.append(at if inside else None)
    return found


def _added_words(tokenizer: PreTrainedTokenizerBase, pieces: list[Piece]) -> list[Word]:
    """Words of one added token, or of those that diffusers puts in a row for one of several vectors."""
    names = {token: name for name, token in tokenizer.get_added_vocab().items()}
    marks = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id}
    words: list[Word] = []
    vectors = 0
    for piece in pieces:
        if piece.id not in names or piece.id in marks:
            vectors = 0
        elif vectors and names[piece.id] == f"{words[-1].name}_{vectors}":
            words[-1] = replace(words[-1], stop=piece.stop)
            vectors += 1
        else:
            words.append(Word(name=names[piece.id], start=piece.start, stop=piece.stop, added=True))
            vectors = 1
    return words


def _joined(words: list[Word], pieces: list[Piece], text: str) -> list[Word]:
    """Words that share a piece made one."""
    starts = [word.start for word in words]
    with_previous = set()
    for piece in pieces:
        last = bisect_right(starts, piece.stop - 1) - 1
        while last > 0 and words[last - 1].stop > piece.start:
            with_previous.add(last)
            last -= 1
    joined: list[Word] = []
    for index, word in enumerate(words):
        if index in with_previous:
            start = joined.pop().start
            word = Word(name=text[start : word.stop], start=start, stop=word.stop)
        joined.append(word)
    return joined
