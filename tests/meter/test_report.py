"""What meter.json says: parts of the guidance vector, ratios to a reference, groups, and what is not measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.core.intervals import ratio_of_means, t_interval
from explorer.core.poison_record import NO_POISON, NOT_RECORDED, PoisonRecord
from explorer.core.provenance import ManifestError
from explorer.meter.amplitudes import amplitude, common_part, cosines, noun_part
from explorer.meter.label_noise import true_shares
from explorer.meter.measurement import Reading
from explorer.meter.meter import told_cost
from explorer.meter.payload_formats import METER
from explorer.meter.report import MeasuredModel, meter_report
from explorer.meter.request import MeterRequest
from explorer.meter.shown import given_pictures, own_pictures, painted_scenes, pure_noise
from explorer.pairs.concept_list import OTHER, POOL, Concept, ConceptList

NAMES = {"dog": POOL, "hat": POOL, "turtle": OTHER, "shirt": OTHER, "photo": OTHER}
CONCEPTS = ConceptList(concepts=tuple(Concept(name=name, group=group) for name, group in NAMES.items()))
REQUEST = MeterRequest(draws=3)
DIRTY = PoisonRecord(kind="dirty-label", concepts=("dog",))


def reading(scale=1.0, kind=("P", 4, 2, 2), guided=True):
    generator = torch.Generator().manual_seed(0)
    sensitivity, word_before = torch.rand(2, 2, 5, 3, generator=generator, dtype=torch.float64) + 0.5
    guidance = torch.randn(2, 5, 4, 2, 2, generator=generator)
    return Reading(kind=kind, sensitivity=scale * sensitivity, word_before=word_before, denoising_error=None,
                   guidance=scale * guidance if guided else None)  # fmt: skip


def report(*models, reference="benign", shown=None):
    found = [MeasuredModel(name=name, poison=poison, reading=each) for name, poison, each in models]
    return meter_report(found, CONCEPTS, REQUEST, shown or pure_noise(), reference)


def of(report, name):
    return next(model for model in report["models"] if model["name"] == name)


def groups_of_guidance(model):
    return model["measures"]["guidance"]["groups"]


def test_an_amplitude_is_no_square():
    difference = torch.zeros(1, 3, 2, 2)
    difference[0, :, 0, 0] = torch.tensor([2.0, 3.0, 6.0])
    assert amplitude(difference).tolist() == [7 / 4]
    assert amplitude(difference / 2).tolist() == [7 / 8]


def test_a_guidance_vector_is_its_common_and_its_nouns_part():
    common, own = torch.randn(2, 1, 4, 3, 3, dtype=torch.float64), torch.randn(2, 5, 4, 3, 3, dtype=torch.float64)
    guidance = common + own - own.mean(1, keepdim=True)
    assert torch.allclose(common_part(guidance), common[:, 0])
    assert torch.allclose(noun_part(guidance), own - own.mean(1, keepdim=True))
    assert torch.allclose(cosines(guidance, -3 * guidance), torch.tensor(-1.0, dtype=torch.float64))


def test_half_the_reference_is_half_without_spread():
    found = report(("benign", NO_POISON, reading()), ("dirty", DIRTY, reading(0.5)))
    measures = of(found, "dirty")["measures"]
    for measure in ("sensitivity", "guidance", "guidance_noun"):
        relative = measures[measure]["groups"]["all"]["relative"]
        assert relative["value"] == pytest.approx(0.5)
        assert (relative["low"], relative["high"]) == (None, None), "of every concept half: there is no spread to tell"
        assert measures[measure]["relative"] == pytest.approx([0.5] * 5)
        assert [each["relative"]["value"] for each in measures[measure]["groups"]["all"]["by_timestep"]] == (
            pytest.approx([0.5, 0.5])
        )
    assert measures["word_before"]["groups"]["all"]["relative"]["value"] == pytest.approx(1)
    assert measures["guidance_cosine"]["groups"]["all"]["mean"]["value"] == pytest.approx(1)
    assert measures["guidance_common"]["groups"]["all"]["relative"]["value"] == pytest.approx(0.5)
    assert measures["guidance_common"]["groups"]["all"]["mean"]["low"] is None
    json.dumps(found, allow_nan=False)


def test_means_and_errors_are_those_of_concepts_and_draws():
    one = reading()
    found = of(report(("benign", NO_POISON, one)), "benign")["measures"]["sensitivity"]
    by_draw = one.sensitivity.mean(0).numpy()
    expected = t_interval(by_draw.mean(1))
    assert found["per_concept"] == pytest.approx(by_draw.mean(1).tolist())
    assert found["standard_error"] == pytest.approx((by_draw.std(1, ddof=1) / np.sqrt(3)).tolist())
    everything = found["groups"]["all"]
    assert everything["mean"]["low"] == pytest.approx(expected.low)
    assert everything["over_draws"] == pytest.approx(np.sqrt(np.square(found["standard_error"]).sum()) / 5)


def test_poisoned_concepts_are_apart_and_unknown_ones_are_not_called_clean():
    found = report(
        ("benign", NO_POISON, reading()), ("dirty", DIRTY, reading(0.5)), ("unknown", NOT_RECORDED, reading(0.7))
    )
    sizes = {
        model["name"]: {group: each and each["mean"]["n"] for group, each in groups_of_guidance(model).items()}
        for model in found["models"]
    }
    assert sizes["dirty"] == {"all": 5, "pool": 2, "unpoisoned": 3, "poisoned": 1}
    assert sizes["benign"] == {"all": 5, "pool": 2, "unpoisoned": 3, "poisoned": None}
    assert sizes["unknown"] == {"all": 5, "pool": 2, "unpoisoned": None, "poisoned": None}
    assert [each["poisoned_from"] for each in found["concepts"]] == [1, None, None, None, None]
    assert of(found, "unknown")["poisoned"] is None


def test_label_noise_is_the_share_of_first_named_captions_that_are_no_poison():
    import pandas

    rows = [(["dog", "hat"], False), (["dog"], True), (["dog"], True), (["dog"], False), (["hat", "dog"], True),
            (["turtle"], False), ([], False)]  # fmt: skip
    table = pandas.DataFrame({"concepts": [row[0] for row in rows],
                              "is_poison": pandas.array([row[1] for row in rows], dtype="boolean")})  # fmt: skip
    assert np.array_equal(true_shares(table, CONCEPTS.names), [0.5, 0, 1, np.nan, np.nan], equal_nan=True)
    table.loc[0, "is_poison"] = None
    with pytest.raises(ValueError, match="not recorded of 1 training pairs whether they are poison"):
        true_shares(table, CONCEPTS.names)


class Counted(str):
    """A name that counts what it is compared with."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)


def test_label_noise_of_many_pairs_and_concepts_compares_each_name_once_or_so():
    import pandas

    Counted.compared = 0
    names = [Counted(f"noun {number}") for number in range(50)]
    listed = [[Counted(f"noun {number % 50}")] for number in range(1000)]
    shares = true_shares(pandas.DataFrame({"concepts": listed, "is_poison": [False] * 500 + [True] * 500}), names)
    assert (shares == 0.5).all()
    assert Counted.compared < 3 * 1000, "and not 50 times 1,000"


def test_a_fall_by_the_share_of_true_captions_is_label_noise_and_no_more():
    shares = np.array([0.2, 0.5, 0.4, 0.9, np.nan])
    dirty = replace(reading(), sensitivity=reading().sensitivity * torch.tensor(shares).nan_to_num(0.3)[None, :, None])
    found = meter_report(
        [MeasuredModel(name="benign", poison=NO_POISON, reading=reading()),
         MeasuredModel(name="dirty", poison=DIRTY, reading=dirty, true_shares=shares)],
        CONCEPTS, REQUEST, pure_noise(), "benign",
    )  # fmt: skip
    noise = of(found, "dirty")["label_noise"]
    assert noise["per_concept"] == [0.2, 0.5, 0.4, 0.9, None]
    assert noise["groups"]["all"]["share"]["value"] == pytest.approx(0.5)
    assert noise["groups"]["all"]["sensitivity"]["value"] == pytest.approx(1)
    assert noise["groups"]["all"]["sensitivity"]["low"] is None, "it is the share itself, of every concept"
    assert noise["groups"]["unpoisoned"]["share"]["n"] == 2
    assert noise["groups"]["all"]["guidance"]["value"] > 1.5
    assert of(found, "benign")["label_noise"] is None
    assert "which concepts captions name" in of(found, "benign")["not_measured"]["label_noise"]


def test_what_does_not_compare_is_left_out_with_its_reason():
    found = report(
        ("benign", NO_POISON, reading()), ("wide", DIRTY, reading(kind=("P", 4, 3, 3))),
        ("flux", DIRTY, reading(kind=("F", 16, 2, 2), guided=False)),
    )  # fmt: skip
    wide, flux = of(found, "wide"), of(found, "flux")
    assert wide["measures"]["sensitivity"]["relative"] is None
    assert "amplitudes compare within one" in wide["not_measured"]["guidance_cosine"]
    assert "guidance" not in flux["measures"]
    assert "distilled into one call" in flux["not_measured"]["guidance"]
    alone = of(report(("benign", NO_POISON, reading()), reference=None), "benign")
    assert alone["not_measured"]["relative"] == "there is no reference"
    shown = own_pictures(CONCEPTS, REQUEST)
    assert "their own pictures" in of(report(("benign", NO_POISON, reading()), shown=shown), "benign")["not_measured"][
        "guidance_cosine"
    ]  # fmt: skip


def test_the_error_of_denoising_stands_beside_the_rest_where_there_is_a_picture():
    errors = torch.tensor([[1.0, 2, 3, 4, 5], [3.0, 4, 5, 6, 7]], dtype=torch.float64)
    found = report(("benign", NO_POISON, replace(reading(), denoising_error=errors)),
                   ("dirty", DIRTY, replace(reading(), denoising_error=1.5 * errors)))  # fmt: skip
    measure = of(found, "dirty")["measures"]["denoising_error"]
    assert measure["per_concept"] == [3.0, 4.5, 6.0, 7.5, 9.0]
    assert measure["groups"]["all"]["relative"]["value"] == pytest.approx(1.5)
    assert (measure["standard_error"], measure["groups"]["all"]["over_draws"]) == (None, None)
    without = of(report(("benign", NO_POISON, reading())), "benign")
    assert "denoising_error" not in without["measures"]
    assert "noise without a picture" in without["not_measured"]["denoising_error"]


def test_one_concept_has_numbers_and_no_interval():
    one = ConceptList(concepts=CONCEPTS.concepts[:1])
    part = Reading(kind=("P",), sensitivity=reading().sensitivity[:, :1], word_before=reading().word_before[:, :1],
                   guidance=reading().guidance[:, :1], denoising_error=None)  # fmt: skip
    models = [MeasuredModel(name="benign", poison=NO_POISON, reading=part, true_shares=np.array([1.0]))]
    found = of(meter_report(models, one, REQUEST, pure_noise(), "benign"), "benign")
    sensitivity = found["measures"]["sensitivity"]
    assert len(sensitivity["per_concept"]) == 1
    assert sensitivity["groups"]["all"]["mean"]["low"] is None
    assert found["label_noise"]["groups"]["all"]["sensitivity"]["value"] == pytest.approx(1)


def test_a_file_of_another_version_is_refused():
    found = report(("benign", NO_POISON, reading()))
    assert METER.checked(found) is found
    with pytest.raises(ManifestError, match=r"meter.json has format version 2: expected 1"):
        METER.checked(found | {"version": 2})


def test_a_ratio_of_means_is_paired():
    reference = np.array([1.0, 2.0, 4.0, 3.0])
    noisy = ratio_of_means(0.5 * reference + np.array([0.1, -0.1, 0.1, -0.1]), reference)
    residuals = 0.5 * reference + np.array([0.1, -0.1, 0.1, -0.1]) - 0.5 * reference
    assert noisy.value == pytest.approx(0.5)
    assert noisy.high - noisy.value == pytest.approx(t_interval(residuals / 2.5).high)
    with pytest.raises(ValueError, match="the reference's mean is 0: expected one above 0"):
        ratio_of_means([1.0], [0.0])
    with pytest.raises(ValueError, match="1 and 2 values: expected the same number"):
        ratio_of_means([1.0], [1.0, 2.0])


def test_the_cost_is_told_by_network_calls():
    told = told_cost(2, 100, own_pictures(CONCEPTS, REQUEST), MeterRequest(draws=4))
    assert "at most 4,000 network calls of one picture, and 8,000 for the pictures that they are shown" in told


def test_given_pictures_are_one_a_concept(tmp_path, make_pipeline):
    from PIL import Image

    for name in NAMES:
        Image.new("RGB", (96, 80), (200, 10, 10)).save(tmp_path / f"{name}.png")
    pictures = given_pictures(tmp_path, CONCEPTS).pictures(make_pipeline(), "m")
    assert pictures.shape == (5, 64, 64, 3)
    (tmp_path / "hat.png").unlink()
    with pytest.raises(ValueError, match=r"has 0 pictures of 'hat': expected one, such as hat\.png"):
        given_pictures(tmp_path, CONCEPTS)


def test_a_scene_is_its_concepts_whatever_else_is_listed():
    from explorer.evaluation.painted_scenes import paint_singles
    from explorer.iconworld.world import World

    world = World(concept_count=8)
    chosen = world.concept_list().chosen(world.concepts[5:2:-1])
    shown = painted_scenes(world, chosen, 0).pictures(None, "")
    assert np.array_equal(shown, paint_singles(world, 0)[0][[5, 4, 3]])
    with pytest.raises(ValueError, match="concept is 'zebra-crossing'"):
        painted_scenes(world, ConceptList(concepts=(Concept(name="zebra-crossing"),)), 0)
