"""The features beside a pair set are always those of one extractor, whatever interrupted their making."""

import os

import numpy as np
import pandas
import pytest
import torch

from explorer.core.provenance import ManifestError
from explorer.embeddings.features import TEXT_NAME, pair_features
from explorer.pairs.pair_set import IMAGES_NAME, PairSet


class RotatingExtractor:
    """Two directions that every identity turns by another angle; counts the pictures it encodes."""

    name = "rotating"

    def __init__(self, identity):
        self.identity, self.encoded = identity, 0
        angle = torch.tensor(float(len(identity)))
        self.directions = torch.stack([angle.cos(), angle.sin()])[None]

    def encode_images(self, images):
        self.encoded += len(images)
        return self.directions.expand(len(images), 2)

    def encode_texts(self, captions):
        return self.directions.expand(len(captions), 2)


@pytest.fixture
def pair_set(tmp_path):
    table = pandas.DataFrame(
        {
            "uid": ["a", "b", "c"],
            "caption": "dog",
            "concepts": [["dog"]] * 3,
            "image_index": [0, 1, 1],
            "is_poison": False,
            "poisoned_concept": "",
            "target_concept": "",
            "split": "train",
        }
    )
    return PairSet.write(tmp_path / "set", table, np.zeros((2, 4, 4, 3), np.uint8), config={}, seed=0)


def test_features_are_computed_once_and_again_for_other_weights(pair_set):
    first, other = RotatingExtractor("1"), RotatingExtractor("22")
    image, text = pair_features(pair_set, first)
    assert torch.allclose(image, first.directions.expand(3, 2), atol=1e-3)
    assert torch.equal(image, text)
    assert torch.equal(pair_features(pair_set, first)[0], image)
    assert first.encoded == 2, "pairs that share a picture share its features, and the second call reads them"
    assert not torch.allclose(pair_features(pair_set, other)[0], image, atol=0.1)


def test_an_interrupted_refresh_is_not_taken_for_the_features_before(pair_set, monkeypatch):
    first = RotatingExtractor("1")
    image, text = pair_features(pair_set, first)
    save = np.save

    def save_images_only(stream, features, **options):
        if TEXT_NAME in str(stream.name):
            raise KeyboardInterrupt
        save(stream, features, **options)

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", save_images_only)
        with pytest.raises(KeyboardInterrupt):
            pair_features(pair_set, RotatingExtractor("22"))
    again = pair_features(pair_set, first)
    assert torch.equal(again[0], image)
    assert torch.equal(again[1], text)


def test_pictures_changed_under_their_features_are_not_taken_for_the_old_ones(pair_set):
    extractor = RotatingExtractor("1")
    pair_features(pair_set, extractor)
    images = pair_set.folder / IMAGES_NAME
    np.save(images, np.ones((2, 4, 4, 3), np.uint8))
    os.utime(images, ns=(1, 1))  # as a copy that keeps the times of an older file
    with pytest.raises(ManifestError, match=f"{IMAGES_NAME} has SHA-256"):
        pair_features(PairSet.load(pair_set.folder), extractor)


def test_features_of_another_number_of_pairs_are_replaced(pair_set):
    extractor = RotatingExtractor("1")
    image, _ = pair_features(pair_set, extractor)
    np.save(pair_set.folder / "features" / extractor.name / TEXT_NAME, np.ones((2, 2), np.float16))
    assert torch.equal(pair_features(pair_set, extractor)[1], image)
