import numpy as np
import pytest

from explorer.attention.words import word_groups
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
    for name in ("model", "settings", "words", "concept_words", "numbers", "poison", "seconds"):
        assert getattr(found, name) == getattr(described, name)


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
        return concept_word_indices(word_groups(tokenizer, prompt), CONCEPTS)

    assert rows("a Dog hat") == (1, 2)
    assert rows("a photo of a t shirt, dog") == (4, 5, 6), "a concept of two words has a row for each"
    assert rows("a photo") == (1,)
    assert rows("") == ()


def test_checkpoints_are_compared_in_order(checkpoint_root):
    checkpoints = scan_checkpoints(checkpoint_root)[::-1]
    columns = compare_checkpoints(checkpoints, REQUEST, concepts=CONCEPTS)
    assert [column.model for column in columns] == ["dirty-004", "dirty-002", "benign"]
    assert all(column.settings["seed"] == 3 for column in columns)
