"""Where the words of a prompt begin and end, in any script: what a person points at, not what a tokenizer cuts."""

from __future__ import annotations

import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_INSIDE = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]"
_JOIN = r"(?: ['’‐‑\-\u200C\u200D\u00AD] | _+ | (?<=\p{N})\.(?=\p{N}) )"
"""What may stand inside a word: apostrophe, hyphen, underscores, the point of a number, joiners without width."""
_WORD = regex.compile(
    rf"""(?V1x)
      \p{{Katakana}} [\p{{Katakana}}\p{{M}}ー\uFF70]*                # a run of one kind of kana
    | \p{{Hiragana}} [\p{{Hiragana}}\p{{M}}ー]*
    | \p{{Han}} \p{{M}}*                                           # each ideograph
    | [\u0E40-\u0E44\u0EC0-\u0EC4]? (?=[{_UNSPACED}]) (?=[\p{{L}}\p{{N}}]) \X  # each syllable sign, Thai to Burmese
    | (?=[\p{{L}}\p{{N}}]) {_INSIDE}+ (?: {_JOIN} {_INSIDE}+ )*        # letters and digits
    | (?=[\p{{So}}\p{{Extended_Pictographic}}\p{{Regional_Indicator}}]) (?!\p{{P}}) \X  # an emoji with what modifies it
    """
)


def split_words(text: str, start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
    """Character spans ``(start, stop)`` of the words in ``text[start:stop]``.

    Letters and digits with their marks: ``"1girl,solo"`` is two words, ``"t-shirt"``, ``"dog's"``, ``"red_hair"`` and
    ``"1.3"`` are one each. In scripts without spaces every ideograph, every run of katakana or hiragana and every
    syllable sign is one, since nothing in the text says where longer words end (Unicode Annex 29 does alike); so is
    every emoji. Punctuation and mathematical signs belong to no word.
    """
    return [found.span() for found in _WORD.finditer(text, start, len(text) if stop is None else stop)]
