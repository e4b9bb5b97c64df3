"""What every model is asked for, and the words of each prompt whose maps are kept."""

from __future__ import annotations

from explorer.pairs.concept_list import LESS_POPULAR, OTHER, ConceptList

PAIRED_PROMPTS = 12

Prompts = list[tuple[str, tuple[str, ...]]]
"""Each with its concepts' nouns, of one word or several: attention to several is summed."""


def single_prompts(concepts: ConceptList) -> Prompts:
    """The prompt of every concept, in the list's order."""
    return [(concepts.prompt(each.name), (each.noun,)) for each in concepts.concepts]


def paired_prompts(concepts: ConceptList) -> Prompts:
    """Prompts about two concepts that no poison targets unless they are named: ``PAIRED_PROMPTS`` at most, none where
    the groups *other* and *less popular* have fewer than two concepts."""
    others = [*concepts.of_group(OTHER), *concepts.of_group(LESS_POPULAR)]
    couples = list(zip(others[0::2], others[1::2], strict=False))[:PAIRED_PROMPTS]
    return [(concepts.prompt_of_two(a, b), (concepts.concept(a).noun, concepts.concept(b).noun)) for a, b in couples]
