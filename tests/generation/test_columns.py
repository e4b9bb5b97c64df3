from dataclasses import replace

import numpy as np
import pytest

from explorer.attention.words import TextRange, words_of_ranges
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import scan_checkpoints
from explorer.generation.columns import (
    attention_numbers,
    compare_checkpoints,
    concept_word_indices,
    describe_generation,
    read_comparison,
    write_comparison,
)
from explorer.generation.generate import GenerationRequest, generate
from explorer.generation.sensitivity import column_sensitivity, sensitivity_maps

REQUEST = GenerationRequest(prompt="a dog and hat", seed=3, steps=2, guidance_scale=2.0)
CONCEPTS = ("dog", "hat", "turtle", "t shirt")


@pytest.fixture
def column(checkpoint_root):
    checkpoint = scan_checkpoints(checkpoint_root)[1]
    generation = generate(load_pipeline(checkpoint), REQUEST, model=checkpoint.name)
    return generation, describe_generation(generation, checkpoint, concepts=CONCEPTS)


def test_a_column_keeps_every_map_within_half_a_unit(column):
    generation, described = column
    assert described.model == "dirty-002"
    assert described.poison.names == ("dog", "hat")
    assert described.words == ("a", "dog", "and", "hat", "[start]", "[end]")
    assert described.concept_words == (1, 3)
    first = described.stacks[0]
    assert first.values.shape[-2:] == generation.cube.default_resolution
    restored = first.values[0, 0, 0] * first.scales[0, 0, 0][:, None, None]
    expected = generation.cube.maps().numpy()
    np.testing.assert_allclose(restored, expected, atol=float(first.scales.max()) * 0.51 + 1e-3)
    assert len(described.stacks) == len(generation.cube.resolutions)


def test_numbers_agree_with_the_cube(column):
    from explorer.attention.statistics import cosine_overlap, scatter

    generation, described = column
    maps = generation.cube.maps()
    assert described.numbers["scatter"]["1"] == pytest.approx(float(scatter(maps)[1]))
    assert described.numbers["mass"]["3"] == pytest.approx(float(maps[3].mean()))
    assert described.numbers["overlap"] == pytest.approx(float(cosine_overlap(maps)[1, 3]))
    assert attention_numbers(generation.cube, (1,))["overlap"] is None


def test_a_comparison_reads_back_unchanged(column, tmp_path):
    _, described = column
    folder = tmp_path / "comparison"
    names = write_comparison(folder, [described])
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    (found,) = read_comparison(folder)
    np.testing.assert_array_equal(found.image, described.image)
    for kept, written in zip(found.stacks, described.stacks, strict=True):
        np.testing.assert_array_equal(kept.values, written.values)
        np.testing.assert_array_equal(kept.scales, written.scales)
        assert kept.layers == written.layers
    same_arrays(found.guidance, described.guidance)
    same_arrays(found.latents, described.latents)
    assert found.latents.steps == (0, 1)
    assert not found.sensitivity
    for name in ("model", "settings", "words", "concept_words", "numbers", "poison", "seconds"):
        assert getattr(found, name) == getattr(described, name)


def same_arrays(found, expected):
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value)


def test_guidance_is_kept_within_half_a_unit_and_its_mean_comes_first(column):
    generation, described = column
    maps = generation.steps.guidance[:, 0].numpy()
    restored = described.guidance.values * described.guidance.scales[:, None, None]
    np.testing.assert_allclose(restored[1:], maps, atol=float(described.guidance.scales.max()) * 0.51)
    np.testing.assert_allclose(restored[0], maps.mean(0), atol=float(described.guidance.scales[0]) * 0.51)
    assert (described.no_guidance, maps.max() > 0) == ("", True)


def test_an_unguided_column_reads_back_with_the_reason(checkpoint_root, tmp_path):
    checkpoint = scan_checkpoints(checkpoint_root)[0]
    (drawn,) = compare_checkpoints([checkpoint], replace(REQUEST, guidance_scale=1.0), concepts=CONCEPTS)
    write_comparison(tmp_path, [drawn])
    (found,) = read_comparison(tmp_path)
    assert found.guidance is None
    assert "the guidance scale is 1" in found.no_guidance


def test_sensitivity_of_the_concepts_is_measured_kept_and_read_back(checkpoint_root, tmp_path):
    checkpoint = scan_checkpoints(checkpoint_root)[0]
    (drawn,) = compare_checkpoints([checkpoint], REQUEST, concepts=CONCEPTS)
    assert list(drawn.sensitivity) == [1, 3]
    pipeline = load_pipeline(checkpoint)
    trajectory = generate(pipeline, REQUEST).steps.trajectory
    expected = sensitivity_maps(pipeline, REQUEST, "hat", trajectory)
    measured = drawn.sensitivity[3]
    restored = measured.maps.values * measured.maps.scales[:, None, None]
    np.testing.assert_allclose(restored, expected.mean(1), atol=float(measured.maps.scales.max()) * 0.51)
    np.testing.assert_allclose(measured.draws, expected.mean((2, 3)), rtol=1e-5)
    write_comparison(tmp_path, [drawn])
    (found,) = read_comparison(tmp_path)
    assert found.sensitivity[3].steps == (0, 1)
    np.testing.assert_array_equal(found.sensitivity[3].draws, measured.draws)
    same_arrays(found.sensitivity[3].maps, measured.maps)
    again = column_sensitivity(pipeline, found, 3, [1])
    np.testing.assert_allclose(again.draws, measured.draws[1:], rtol=1e-5)
    with pytest.raises(ValueError, match="word 4 does not exist: expected 0 to 3, the words of the prompt"):
        column_sensitivity(pipeline, found, 4)
    with pytest.raises(ValueError, match=r"step 7 has no latents kept: expected some of \[0, 1\]"):
        column_sensitivity(pipeline, found, 1, [7])


def test_columns_of_one_model_are_refused(column, tmp_path):
    _, described = column
    with pytest.raises(ValueError, match="expected different ones"):
        write_comparison(tmp_path, [described, described])


def test_a_generation_without_capture_is_refused(checkpoint_root):
    checkpoint = scan_checkpoints(checkpoint_root)[0]
    generation = generate(load_pipeline(checkpoint), REQUEST, capture=False)
    with pytest.raises(ValueError, match="expected one made with capture=True"):
        describe_generation(generation, checkpoint, concepts=CONCEPTS)


def test_a_prompt_without_concepts_shows_its_last_word(tokenizer_folder):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)

    def rows(prompt):
        return concept_word_indices(words_of_ranges([TextRange(tokenizer=tokenizer, length=28)], prompt), CONCEPTS)

    assert rows("a Dog hat") == (1, 2)
    assert rows("a photo of a t shirt, dog") == (4, 5, 6), "a concept of two words has a row for each"
    assert rows("a photo") == (1,)
    assert rows("") == ()


def test_checkpoints_are_compared_in_order(checkpoint_root):
    checkpoints = scan_checkpoints(checkpoint_root)[::-1]
    columns = compare_checkpoints(checkpoints, REQUEST, concepts=CONCEPTS)
    assert [column.model for column in columns] == ["dirty-004", "dirty-002", "benign"]
    assert all(column.settings["seed"] == 3 for column in columns)
