import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints
from explorer.core.poison_record import NOT_RECORDED
from explorer.generation.film_strip import CELL, FilmStripConfig, film_column, write_film_strip
from explorer.generation.generate import GenerationRequest, generate
from explorer.pairs.concept_list import Concept, ConceptList

CONFIG = FilmStripConfig(concepts=ConceptList(concepts=(Concept(name="dog"), Concept(name="turtle"))), steps=1)


def test_the_strip_has_a_cell_for_every_concept_and_model(checkpoint_root, tmp_path):
    checkpoints = scan_checkpoints(checkpoint_root)
    names = write_film_strip(tmp_path / "strip", checkpoints[::-1], CONFIG)
    folder = tmp_path / "strip"
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    description = json.loads((folder / "film_strip.json").read_text())
    assert [model["poisoned_concept_count"] for model in description["models"]] == [0, 2, 4]
    assert description["concepts"] == [
        {"concept": "dog", "poisoned_from": 2},
        {"concept": "turtle", "poisoned_from": 4},
    ]
    assert all(0 <= cell["scatter"] <= 1 for model in description["models"] for cell in model["cells"])
    with Image.open(folder / "images.png") as images, Image.open(folder / "maps.png") as maps:
        assert images.size == maps.size == (3 * CELL, 2 * CELL)
        assert (images.mode, maps.mode) == ("RGB", "L")
        column = film_column(load_pipeline(checkpoints[0]), CONFIG)
        assert column.images.shape[1:3] == (CELL, CELL)
        np.testing.assert_array_equal(np.asarray(images)[CELL:, :CELL], column.images[1])


def test_guidance_maps_are_those_of_the_pictures_own_calls(checkpoint_root, tmp_path):
    checkpoint = read_checkpoint(checkpoint_root / "benign")
    config = replace(CONFIG, steps=2, seed=3)
    write_film_strip(tmp_path, [checkpoint], config)
    description = json.loads((tmp_path / "film_strip.json").read_text())
    pipeline, maps = load_pipeline(checkpoint), []
    for concept in config.concepts.names:
        request = GenerationRequest(prompt=f"a photo of a {concept}", seed=3, steps=2, guidance_scale=4.0)
        maps.append(generate(pipeline, request).steps.guidance.mean(dim=0)[0].numpy())
    model = description["models"][0]
    assert model["no_guidance"] == ""
    assert [cell["guidance"] for cell in model["cells"]] == [round(float(each.mean()), 4) for each in maps]
    top = np.quantile(np.stack(maps), 0.995)
    assert description["guidance_map_scale"] == pytest.approx(top)
    expected = (np.clip(maps[1] / top, 0, 1) * 255).round().astype(np.uint8)
    expected = Image.fromarray(expected).resize((CELL, CELL), Image.Resampling.BILINEAR)
    with Image.open(tmp_path / "guidance.png") as sheet:
        np.testing.assert_array_equal(np.asarray(sheet)[CELL:], np.asarray(expected))


def test_a_strip_without_guidance_has_no_sheet_of_it_and_says_why(checkpoint_root, tmp_path):
    folder = tmp_path / "strip"
    names = write_film_strip(folder, scan_checkpoints(checkpoint_root), replace(CONFIG, guidance_scale=1.0))
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    assert sorted(names) == ["film_strip.json", "images.png", "maps.png"]
    description = json.loads((folder / "film_strip.json").read_text())
    assert description["guidance_map_scale"] is None
    for model in description["models"]:
        assert "the guidance scale is 1, and up to 1" in model["no_guidance"]
        assert all("guidance" not in cell for cell in model["cells"])


def test_a_model_without_guidance_maps_leaves_its_cells_black(checkpoint_root, make_flux_pipeline, tmp_path):
    make_flux_pipeline().save_pretrained(checkpoint_root / "flux")
    both = [read_checkpoint(checkpoint_root / name) for name in ("benign", "flux")]
    write_film_strip(tmp_path, both, CONFIG)
    models = json.loads((tmp_path / "film_strip.json").read_text())["models"]
    assert [bool(model["no_guidance"]) for model in models] == [False, True]
    with Image.open(tmp_path / "guidance.png") as sheet:
        cells = np.asarray(sheet)
    assert cells[:, :CELL].any()
    assert not cells[:, CELL:].any()


def test_a_model_of_which_no_poison_is_recorded_comes_last(checkpoint_root, tmp_path):
    first, *others = scan_checkpoints(checkpoint_root)
    concepts = ConceptList(concepts=(Concept(name="photo dog"),), template="{phrase}")
    write_film_strip(
        tmp_path, [replace(first, name="mine", poison=NOT_RECORDED), *others],
        FilmStripConfig(concepts=concepts, steps=1, size=32, precision="fp32"),
    )  # fmt: skip
    models = json.loads((tmp_path / "film_strip.json").read_text())["models"]
    assert [(each["name"], each["poisoned_concept_count"]) for each in models] == [
        ("dirty-002", 2), ("dirty-004", 4), ("mine", None),
    ]  # fmt: skip


def test_models_of_several_sizes_share_a_strip(checkpoint_root, make_xl_pipeline, tmp_path):
    make_xl_pipeline().save_pretrained(checkpoint_root / "xl")
    benign, xl = (read_checkpoint(checkpoint_root / name) for name in ("benign", "xl"))
    write_film_strip(tmp_path / "strip", [benign, xl], CONFIG)
    columns = [film_column(load_pipeline(each), CONFIG) for each in (benign, xl)]
    assert columns[0].maps.shape != columns[1].maps.shape
    with Image.open(tmp_path / "strip" / "maps.png") as maps:
        assert maps.size == (2 * CELL, 2 * CELL)


def test_models_are_needed(tmp_path):
    with pytest.raises(ValueError, match="no checkpoints given"):
        write_film_strip(tmp_path, [], CONFIG)
