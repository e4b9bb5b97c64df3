"""Words of captions that a model's tokenizers do not know: a model reads nothing of them, or a sign that says nothing.

A prompt with such a word is refused where it is drawn; a user's captions are trained on as they are, and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from explorer.attention.word_boundaries import split_words
from explorer.attention.words import read_lexicon, unknown_words
from explorer.core.bounded_files import printable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 10
"""Of the unknown words so many are named, the commonest."""
LONGEST_WORD = 40
AT_ONCE = 10_000
"""Words that a tokenizer is given at once."""


@dataclass(frozen=True, kw_only=True)
class UnknownWords:
    """Of some captions."""

    captions: int
    """Distinct ones with at least one unknown word."""
    of: int
    """Distinct captions."""
    counts: Counter[str]
    """Word, or sign that is none, to the distinct captions that have it; the spelling is the captions'."""

    @property
    def told(self) -> str:
        """In a sentence; empty where all is known."""
        if not self.captions:
            return ""
        shown = ", ".join(
            f"{printable(word, LONGEST_WORD)} ({count})" for word, count in self.counts.most_common(SHOWN)
        )
        more = f" and {len(self.counts) - SHOWN} more" if len(self.counts) > SHOWN else ""
        return (
            f"{self.captions} of {self.of} distinct captions have words that the model's tokenizer does not know: "
            f"{shown}{more}"
        )


def words_unknown_to(tokenizers: Sequence[PreTrainedTokenizerBase], captions: Iterable[str]) -> UnknownWords:
    """Words that any of the tokenizers does not know, as :func:`~explorer.attention.words.check_prompt` has it, or that
    it drops or mutilates: no token stands for some of their letters.

    Every distinct word is looked up once, by itself.
    """
    distinct = list(dict.fromkeys(captions))
    unknown = [_unknown_of(tokenizer, distinct) for tokenizer in tokenizers]
    found = [set(chain.from_iterable(of_each)) for of_each in zip(*unknown, strict=True)]
    return UnknownWords(
        captions=sum(map(bool, found)), of=len(distinct), counts=Counter(chain.from_iterable(map(sorted, found)))
    )  # fmt: skip


def _unknown_of(tokenizer: PreTrainedTokenizerBase, captions: list[str]) -> list[set[str]]:
    # Tokens that were added, as those of textual inversions, have embeddings of their own.
    names = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
    added = re.compile("|".join(map(re.escape, names)) or r"(?!)")
    parts = [_parts(added.sub(" ", caption)) for caption in captions]
    words = _unknown_words(tokenizer, list(dict.fromkeys(chain.from_iterable(words for words, _ in parts))))
    signs = _pieces(tokenizer, list(dict.fromkeys(chain.from_iterable(signs for _, signs in parts))))
    signs = {sign for sign, ids, _ in signs if tokenizer.unk_token_id in ids}
    return [words.intersection(of_words) | signs.intersection(of_signs) for of_words, of_signs in parts]


def _parts(caption: str) -> tuple[list[str], set[str]]:
    """A caption's words, and the signs that belong to none."""
    spans, end, between = split_words(caption), 0, []
    for start, stop in spans:
        between.append(caption[end:start])
        end = stop
    signs = set("".join((*between, caption[end:])))
    return [caption[start:stop] for start, stop in spans], {sign for sign in signs if not sign.isspace()}


def _unknown_words(tokenizer: PreTrainedTokenizerBase, words: list[str]) -> set[str]:
    folder = tokenizer.name_or_path  # empty for a tokenizer that was not read from a folder
    lexicon = read_lexicon(folder) if folder else None
    outside = set() if lexicon is None else {word for word in words if unknown_words(lexicon, word)}
    return outside | {
        word for word, ids, read in _pieces(tokenizer, words) if not read or tokenizer.unk_token_id in ids
    }


def _pieces(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Iterator[tuple[str, list[int], bool]]:
    """Of every text its tokens, and whether these stand for all its letters and digits."""
    for start in range(0, len(texts), AT_ONCE):
        part = texts[start : start + AT_ONCE]
        found = tokenizer(part, add_special_tokens=False, verbose=False, return_offsets_mapping=tokenizer.is_fast)
        for at, (text, ids) in enumerate(zip(part, found["input_ids"], strict=True)):
            # Without offsets nobody can say which letters a token stands for.
            spans = found["offset_mapping"][at] if tokenizer.is_fast else [(0, len(text))]
            covered = set(chain.from_iterable(range(*span) for span in spans))
            yield text, ids, bool(ids) and all(place in covered for place, sign in enumerate(text) if sign.isalnum())
