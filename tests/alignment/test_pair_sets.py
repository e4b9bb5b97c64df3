"""Measuring a pair set equals measuring its features; the label variant, splits and the poison's scores."""

import numpy as np
import pandas
import pytest
import torch

from explorer.alignment.concept_labels import class_labels
from explorer.alignment.difficulty import alignment_difficulty
from explorer.alignment.neighbourhoods import LocalRequest
from explorer.alignment.pair_sets import measure, measure_labels, picture_features
from explorer.alignment.structure.plan import StructureRequest
from explorer.pairs.pair_set import PairSet

NAMES = ["dog", "hat", "ship"]
SEEDED = StructureRequest(seed=1)


class ColourExtractor:
    """Reads a concept off a picture's red value and a caption's word; both sides share its directions."""

    picture_size = None
    name = "colour"
    identity = "0" * 64
    feature_range = (0.0, 0.9)

    def __init__(self):
        self.encoded = 0
        self.directions = torch.nn.functional.normalize(torch.tensor([[3.0, 1, 0], [0, 3, 1], [1, 0, 3]]), dim=1)

    def encode_images(self, images, batch_size=256):
        self.encoded += len(images)
        return self.directions[torch.from_numpy(np.array(images[:, 0, 0, 0], dtype=np.int64)) // 50]

    def encode_texts(self, captions, batch_size=256):
        return self.directions[torch.tensor([NAMES.index(caption) for caption in captions])]


def write_pair_set(folder, poisons=4):
    """Thirty benign pairs (three of the test split) and ``poisons`` hats called dog on pictures of hats."""
    concept = np.arange(30) % 3
    table = pandas.DataFrame(
        {
            "uid": [f"pair-{row}" for row in range(30 + poisons)],
            "caption": [NAMES[index] for index in concept] + ["dog"] * poisons,
            "concepts": [[NAMES[index]] for index in concept] + [["dog"]] * poisons,
            "image_index": [*range(30), *(1 + 3 * row for row in range(poisons))],
            "is_poison": [False] * 30 + [True] * poisons,
            "poisoned_concept": [""] * 30 + ["dog"] * poisons,
            "target_concept": [""] * 30 + ["hat"] * poisons,
            "split": ["test"] * 3 + ["train"] * (27 + poisons),
            "style": "",
        }
    )
    images = np.broadcast_to((concept * 50).astype(np.uint8)[:, None, None, None], (30, 4, 4, 3)).copy()
    return PairSet.write(folder, table, images, config={"world": "colours"}, seed=0)


@pytest.fixture
def pair_set(tmp_path):
    return write_pair_set(tmp_path / "set")


def test_a_pair_whose_features_are_no_numbers_is_named_by_its_uid(pair_set):
    extractor = ColourExtractor()
    extractor.directions[2] = float("nan")
    with pytest.raises(ValueError, match=r"image has NaN or infinite values in rows pair-5, pair-8, .* and 4 more"):
        measure(pair_set, extractor)


def test_measuring_a_set_is_measuring_its_features(pair_set):
    extractor = ColourExtractor()
    measured = measure(pair_set.folder, extractor, alpha=0.7, convention="halved")
    train = pair_set.table[pair_set.table["split"] == "train"]
    image = extractor.encode_images(pair_set.images)[torch.tensor(train["image_index"].to_numpy())]
    text = extractor.encode_texts(train["caption"].tolist())
    expected = alignment_difficulty(image, text, alpha=0.7, feature_range=(0.0, 0.9), convention="halved")
    assert measured.rows.tolist() == train.index.tolist()
    report = measured.report()
    for key in ("feature_ad", "structure_ad", "ad", "ad_standard_error"):
        assert report[key] == pytest.approx(getattr(expected, key), abs=2e-3), "features are cached in fp16"
    assert (report["n"], report["poisoned_pairs"], report["convention"]) == (31, 4, "halved")
    assert report["feature_range"] == [0.0, 0.9]
    assert {"mean_offset", "centred_structure_ad", "centred_ad"} <= report.keys()


def test_pairs_whose_neighbourhood_is_not_measured_have_no_local_score(pair_set):
    measured = measure(pair_set, ColourExtractor(), local=LocalRequest(neighbours=3, local_pairs=12), request=SEEDED)
    known = ~np.isnan(measured.scores("picture_scatter"))
    assert known.sum() == len(measured.local.rows) == measured.report()["local_pairs"] == 12
    columns = measured.local_columns()
    assert set(columns) == {"picture_scatter", "local_structure_distance", "local_feature_distance"}
    assert all((~np.isnan(values) == known).all() for values in columns.values())
    assert 0 < (measured.flags.poisoned & known).sum() < 4, "some poison is drawn"
    assert measured.report()["picture_scatter_auc"] is not None
    without = measure(pair_set, ColourExtractor(), local=LocalRequest(neighbours=0))
    assert (without.local, without.local_columns()) == (None, {})
    with pytest.raises(ValueError, match="score is 'picture_scatter': expected one of sample_ad"):
        without.scores("picture_scatter")


def test_poison_scores_above_benign_pairs(pair_set):
    measured = measure(pair_set, ColourExtractor())
    assert measured.poison_auc("sample_ad") == 1.0
    with pytest.raises(ValueError, match="score is 'loss'"):
        measured.scores("loss")


def test_a_benign_set_has_no_auc(tmp_path):
    measured = measure(write_pair_set(tmp_path / "set", poisons=0), ColourExtractor())
    assert measured.report()["sample_ad_auc"] is None


def test_label_variant_counts_mislabelled_pairs_and_encodes_a_picture_once(pair_set):
    extractor = ColourExtractor()
    measured = measure_labels(pair_set, extractor, split=None)
    assert extractor.encoded == 30
    assert measured.difficulty.feature_ad == 4 / 34
    assert measured.difficulty.feature_distance.numpy().tolist() == [0.0] * 30 + [1.0] * 4
    image = picture_features(pair_set, extractor, measured.rows).double()
    named, _ = class_labels(pair_set.table)
    disparity = ((1 - image @ image.T) - torch.tensor(named[:, None] != named[None]).double()).abs()
    assert measured.difficulty.structure_ad == pytest.approx(disparity.mean().item(), abs=1e-6)
    assert measured.report()["split"] == "all"


def test_a_missing_split_or_label_is_named(pair_set):
    with pytest.raises(ValueError, match=r"split is 'valid': the set has \['test', 'train'\]"):
        measure(pair_set, ColourExtractor(), split="valid")
    table = pair_set.table.copy()
    table.at[2, "concepts"] = []
    with pytest.raises(ValueError, match="pair 'pair-2' has no concept"):
        class_labels(table)
    table = pair_set.table.copy()
    table.loc[31, "target_concept"] = ""
    with pytest.raises(ValueError, match="pair 'pair-31' has no target concept"):
        class_labels(table)
