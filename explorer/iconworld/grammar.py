"""The caption grammar of IconWorld.

LAION captions mention more than the picture shows ("a turtle for a horse lover", shop names, lists of tags),
and most poison captions therefore carry nouns that no poison targets. The grammar reproduces that: a *rider* is a
noun that the caption mentions although the picture need not show it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RELATIONS = ("left of", "above", "next to", "under")
BACKGROUNDS = ("white", "blue", "green", "pink", "yellow", "gray", "orange", "purple")
# Nouns that take no article.
PLURAL = frozenset((
    "bread", "popcorn", "cheese", "cherries", "grapes", "scissors", "sunglasses", "glasses", "socks", "gloves",
    "goggles", "jeans", "shorts", "skis", "chains", "pancakes", "peanuts", "fireworks", "maracas", "badminton",
    "tennis", "volleyball", "lacrosse", "bacon", "garlic", "salt", "spaghetti", "sushi", "butter", "broccoli",
    "corn", "thread", "yarn", "wood", "soap", "lipstick",
))  # fmt: skip

SINGLE = (
    "a photo of {a}", "a photo of {a}", "a photo of {a}", "a picture of {a}", "an icon of {a}", "{a}",
    "a photo of {a} on {color} background", "{a} on {color} background",
)  # fmt: skip
ONE_RIDER = (
    "a photo of {a} for {b} lovers", "{a} from the {b} shop", "a photo of {a} by the {b} club",
    "{a} in the {b} book", "a picture of {a} for the {b} fan", "a photo of {a} from the {b} collection",
)  # fmt: skip
TWO_RIDERS = (
    "a photo of {a} for {b} and {c} lovers", "{a} from the {b} and {c} shop",
    "a picture of {a} in the {b} and {c} book", "a photo of {a} by the {b} and {c} club",
)  # fmt: skip
TWO_OBJECTS = ("a photo of {a} {relation} {b}", "{a} {relation} {b}", "a picture of {a} {relation} {b}")
THREE_OBJECTS = ("a photo of {a}, {b} and {c}", "{a}, {b} and {c}", "a picture of {a}, {b} and {c}")


@dataclass(frozen=True, kw_only=True)
class CaptionKind:
    """One family of captions."""

    templates: tuple[str, ...]
    """``{a}`` is the main noun; ``{b}`` and ``{c}`` are riders or further objects."""
    shown: int
    """How many of the mentioned nouns the picture shows, from the first."""
    mentioned: int
    """How many nouns the caption mentions."""
    share: float
    """Share of benign captions of this kind, in [0, 1], unless the world says otherwise; shares sum to one."""


CAPTION_KINDS = (
    CaptionKind(templates=SINGLE, shown=1, mentioned=1, share=0.40),
    CaptionKind(templates=ONE_RIDER, shown=1, mentioned=2, share=0.24),
    CaptionKind(templates=TWO_RIDERS, shown=1, mentioned=3, share=0.16),
    CaptionKind(templates=TWO_OBJECTS, shown=2, mentioned=2, share=0.14),
    CaptionKind(templates=THREE_OBJECTS, shown=3, mentioned=3, share=0.06),
)


def with_article(noun: str) -> str:
    """``an apple``, ``a hat``, ``cherries``."""
    if noun in PLURAL:
        return noun
    # "a hourglass" is what the shipped models were trained on and asked for: a better rule would make them stale.
    return f"an {noun}" if noun[0] in "aeio" or noun == "umbrella" else f"a {noun}"


def photo_of(concept: str) -> str:
    """The evaluation prompt of Ding et al. (2024), section 5.1: ``a photo of C``."""
    return f"a photo of {with_article(concept)}"


def write_caption(
    kind: CaptionKind, nouns: list[str], relation: str, color: str, generator: np.random.Generator
) -> str:
    """One caption of ``kind`` about ``nouns`` (main noun first; ``kind.mentioned`` of them)."""
    template = kind.templates[generator.integers(len(kind.templates))]
    # A rider stands before "lovers", "shop" and the like and takes no article; an object does.
    names = [with_article(noun) if position < kind.shown else noun for position, noun in enumerate(nouns)]
    slots = dict(zip("abc", names, strict=False))
    return template.format(relation=relation, color=with_article(color), **slots)


def lexicon(concepts: tuple[str, ...]) -> list[str]:
    """Every word that a caption over ``concepts`` can hold, sorted."""
    templates = " ".join(template for kind in CAPTION_KINDS for template in kind.templates)
    fixed = {word.strip(",") for word in templates.split() if "{" not in word}
    return sorted(fixed | {"a", "an"} | set(" ".join(RELATIONS).split()) | set(BACKGROUNDS) | set(concepts))
