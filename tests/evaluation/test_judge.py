"""What the judge says of one picture: the concept that it is nearest to, and the place of the one asked for."""

from dataclasses import replace

import numpy as np

from explorer.core.provenance import ROOT
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.evaluation.judge import ConceptJudge
from explorer.generation.film_strip import FilmStripConfig, film_column
from explorer.pairs.concept_list import Concept, ConceptList

CONCEPTS = ConceptList(concepts=tuple(Concept(name=name) for name in ("dog", "turtle", "hat", "shirt")))
EXTRACTOR = ROOT / "checkpoints" / "iconworld" / "extractor"


def test_the_ranks_of_all_concepts_are_their_order_by_similarity():
    judge = ConceptJudge.load(EXTRACTOR, CONCEPTS, threshold=0.3)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    verdicts = {name: judge.judge(picture, CONCEPTS.prompt(name)) for name in CONCEPTS.names}
    by_similarity = sorted(CONCEPTS.names, key=lambda name: -verdicts[name]["clip_similarity"])
    assert [verdicts[name]["rank"] for name in by_similarity] == [1, 2, 3, 4]
    assert {verdict["top_concept"] for verdict in verdicts.values()} == {by_similarity[0]}


def test_a_prompt_is_encoded_once_for_all_models_that_draw_it(monkeypatch):
    judge, encoded = ConceptJudge.load(EXTRACTOR, CONCEPTS), []
    encode = UniversalExtractor.encode_texts
    monkeypatch.setattr(
        UniversalExtractor, "encode_texts", lambda self, prompts: encoded.append(prompts) or encode(self, prompts)
    )
    picture = np.zeros((64, 64, 3), np.uint8)
    first = judge.judge(picture, "a photo of a hat")
    assert replace(judge, threshold=0.3).judge(picture, "a photo of a hat") == first | {"threshold": 0.3}
    assert judge.judge(picture, "a photo of a dog")["clip_similarity"] != first["clip_similarity"]
    assert encoded == [["a photo of a hat"], ["a photo of a dog"]]


def test_a_film_strip_keeps_place_and_threshold(checkpoint_root):
    from explorer.checkpoints.pipelines import load_pipeline

    judge = ConceptJudge.load(EXTRACTOR, CONCEPTS, threshold=0.3)
    config = FilmStripConfig(concepts=CONCEPTS.chosen(["dog", "turtle"]), steps=1)
    column = film_column(load_pipeline(checkpoint_root / "benign"), config, judge=judge)
    assert column.tau == 0.3
    assert all(1 <= cell["rank"] <= 4 for cell in column.cells)
    assert [cell["rank"] == 1 for cell in column.cells] == [
        cell["top_concept"] == name for cell, name in zip(column.cells, ("dog", "turtle"), strict=True)
    ]
