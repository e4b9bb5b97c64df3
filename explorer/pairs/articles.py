"""The English indefinite article of a noun, by the sound that it begins with."""

from __future__ import annotations

import re
import unicodedata

_RULES = (
    (r"euler|hour(?!i)|heir|honest|hono", "an"),  # the h is silent
    (r"[aefhilmnorsx]\b(?!')", "an"),  # a letter by its name, as of an x-ray
    (r"[a-z]\b(?!')", "a"),
    (r"e[uw]|one(?![ir])|once|ouija", "a"),  # a euro, a ewe, a one-way street
    (r"uni([^nmd]|mo)", "a"),  # a unicorn; an uninvited, unimportant or unidentified guest
    (r"ut[th]", "an"),
    (r"u[bcfhjkqrst][aeiou]", "a"),  # a ukulele, a UFO, a user; an umbrella, an uncle, an urn
    (r"[aeiou]", "an"),
)
"""From a word's beginning, in any case, to its article: the first that fits. After D. Conway, An Algorithmic Approach
to English Pluralization (1998), and his Lingua::EN::Inflect."""
_CAPITALS = re.compile(r"U[A-Z]+\b")
"""A USB stick, a UK passport: letters by their names."""


def with_article(noun: str) -> str:
    """``a dog``, ``an umbrella``, ``a unicorn``, ``an hourglass``: ``noun`` with its indefinite article."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", noun) if not unicodedata.combining(letter))
    fitting = (article for beginning, article in _RULES if re.match(beginning, plain, re.IGNORECASE))
    return f"{'a' if _CAPITALS.match(plain) else next(fitting, 'a')} {noun}"
