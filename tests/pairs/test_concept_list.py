"""Concepts, their groups and prompts, from a table that a person can edit."""

import pytest

from explorer.core.provenance import ROOT
from explorer.pairs.concept_list import LESS_POPULAR, POOL, Concept, ConceptList
from explorer.pairs.pair_import import read_concepts


def test_what_is_written_is_read(tmp_path):
    concepts = ConceptList(
        concepts=(Concept(name="turtle", group=POOL), Concept(name="apple"),
                  Concept(name="cherry", group=LESS_POPULAR, phrase="cherries, red")),
        template="{phrase}, a picture",
    )  # fmt: skip
    concepts.write(tmp_path / "concepts.csv")
    assert ConceptList.read(tmp_path / "concepts.csv", "{phrase}, a picture") == concepts
    assert [concepts.prompt(name) for name in concepts.names] == [
        "a turtle, a picture", "an apple, a picture", "cherries, red, a picture",
    ]  # fmt: skip
    assert concepts.of_group(POOL) == ("turtle",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "concepts.csv is empty: expected a column called concept"),
        ("noun\ndog\n", "expected one called concept"),
        ("concept,group\ndog,pol\n", r"line 2: group of 'dog' is 'pol'"),
        ("concept\ndog\n \n", r"line 3: concept is ''"),
        ("concept,group\n\n\ndog,pol\n", r"line 4: group of 'dog' is 'pol'"),
        ("concept\ndog\ndog\n", "dog stand twice"),
        ("concept\nDog\ncat\ndog\n", "Dog, dog stand twice"),
        ("concept\n", "no concepts"),
    ],
)
def test_nonsense_is_named(tmp_path, text, message):
    (tmp_path / "concepts.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        ConceptList.read(tmp_path / "concepts.csv")


def test_what_is_no_utf_8_is_named(tmp_path):
    path = tmp_path / "concepts.csv"
    path.write_text("concept\ndog\n", encoding="utf-16")
    for read in (ConceptList.read, read_concepts):
        with pytest.raises(ValueError, match=r"concepts\.csv is no text in UTF-8: invalid start byte at byte 0"):
            read(path)
    path.rename(tmp_path / "nouns.txt")
    with pytest.raises(ValueError, match=r"nouns\.txt is no text in UTF-8"):
        read_concepts(tmp_path / "nouns.txt")


def test_a_noun_is_its_phrase_without_the_article():
    nouns = {"turtle": "", "fire truck": "the fire truck", "cherry": "some cherries", "A": "a"}
    concepts = ConceptList(concepts=tuple(Concept(name=name, phrase=phrase) for name, phrase in nouns.items()))
    assert [each.noun for each in concepts.concepts] == ["turtle", "fire truck", "cherries", "a"]
    chosen = concepts.chosen(["fire truck", "turtle"])
    assert chosen.prompt_of_two(*chosen.names) == "a photo of the fire truck left of a turtle"
    with pytest.raises(ValueError, match="concept is 'dog': expected one of the list's 4"):
        concepts.chosen(["dog"])


def test_a_template_has_one_place():
    with pytest.raises(ValueError, match="template is"):
        ConceptList(concepts=(Concept(name="dog"),), template="a photo of {concept}")
    with pytest.raises(ValueError, match="expected one of"):
        ConceptList(concepts=(Concept(name="dog"),)).prompt("cat")


@pytest.mark.parametrize(
    ("article", "nouns"),
    [
        ("an", "umbrella uncle urn usher underpass hour hourglass heirloom apple owl x-ray éclair O'Neill"),
        (
            "a",
            "dog unicorn uniform ukulele UFO USB-stick user house honey euro ewe one-way onesie t-shirt Zürich",
        ),
    ],
)
def test_a_name_has_the_article_of_its_sound(article, nouns):
    shown = [Concept(name=name).shown for name in nouns.split()]
    assert shown == [f"{article} {name}" for name in nouns.split()]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "assets").rglob("concepts.csv")), ids=lambda path: str(path.parent.name)
)
def test_shipped_lists_say_what_models_were_asked_for(path):
    """By the first letter alone, but for what a phrase says: another prompt would make their pictures stale."""
    for concept in ConceptList.read(path).concepts:
        assert concept.shown == (concept.phrase or f"{'an' if concept.name[0] in 'aeio' else 'a'} {concept.name}")
