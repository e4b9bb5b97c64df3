import dataclasses

import numpy as np
import pytest
from PIL import Image

from explorer.generation.files import (
    UNFINISHED_NAME,
    check_folder,
    read_settings,
    save_generations,
    write_png,
)
from explorer.generation.generate import GenerationRequest, generate


@pytest.fixture(scope="module")
def generation(make_pipeline):
    request = GenerationRequest(prompt="a turtle", seed=0, steps=2, images=2)
    return generate(make_pipeline(), request, model="poisoned 20/x")


def test_images_and_maps_are_written_with_their_settings(generation, tmp_path):
    files = save_generations([generation], tmp_path / "out")
    names = [
        f"{image}{end}" for image in (0, 1) for end in (".png", "-map-0-a.png", "-map-1-turtle.png", "-guidance.png")
    ]
    assert [path.name for path in files] == [f"poisoned-20-x-{name}" for name in names]
    assert np.array_equal(np.asarray(Image.open(files[4])), generation.images[1])
    settings = read_settings(files[2])
    assert settings["request"]["prompt"] == "a turtle"
    assert (settings["word"], settings["word_index"], settings["image"]) == ("turtle", 1, 0)
    restored = np.asarray(Image.open(files[2])) * settings["map_scale"] / 255
    expected = generation.cube.map(1, (64, 64)).numpy()
    assert np.abs(restored - expected).max() <= settings["map_scale"] / 510 + 1e-7
    settings, guidance = read_settings(files[7]), generation.steps.guidance[:, 1]
    assert (settings["map"], settings["image"]) == ("guidance", 1)
    restored = np.asarray(Image.open(files[7])) * settings["map_scale"] / 255
    assert abs(restored.mean() - float(guidance.mean())) <= settings["map_scale"] / 255


def test_a_word_of_any_length_and_script_gives_a_file_name(generation, tmp_path):
    words = dataclasses.replace(generation.words, words=("猫" * 300, "a/b"))
    files = save_generations([dataclasses.replace(generation, words=words)], tmp_path / "out")
    assert [path.name for path in files[1:3]] == [
        f"poisoned-20-x-0-map-0-{'猫' * 40}.png",
        "poisoned-20-x-0-map-1-a-b.png",
    ]
    assert read_settings(files[1])["word"] == "猫" * 300


def test_one_scale_for_all_maps(generation, tmp_path):
    other = dataclasses.replace(generation, model="other")
    files = save_generations([generation, other], tmp_path)
    scales = {read_settings(path)["map_scale"] for path in files if "-map-" in path.name}
    assert len(scales) == 1
    brightest = max(np.asarray(Image.open(path)).max() for path in files if "-map-" in path.name)
    assert brightest == 255


def test_without_capture_there_are_images_only(generation, tmp_path):
    files = save_generations([dataclasses.replace(generation, cube=None, steps=None)], tmp_path)
    assert [path.name for path in files] == ["poisoned-20-x-0.png", "poisoned-20-x-1.png"]


def test_generations_do_not_mix_in_one_folder(generation, tmp_path):
    files = save_generations([generation], tmp_path / "out")
    before = [path.read_bytes() for path in files]
    with pytest.raises(ValueError, match=r"already holds poisoned-20-x-0-guidance\.png, .* and 5 more: choose a"):
        save_generations([dataclasses.replace(generation, model="other")], tmp_path / "out")
    assert sorted((tmp_path / "out").iterdir()) == sorted(files)
    assert [path.read_bytes() for path in files] == before


def test_name_clashes_and_foreign_files_are_refused(generation, tmp_path):
    with pytest.raises(ValueError, match="share a file name"):
        save_generations([generation, generation], tmp_path)
    Image.new("L", (1, 1)).save(tmp_path / "foreign.png")
    with pytest.raises(ValueError, match="carries no settings"):
        read_settings(tmp_path / "foreign.png")
    write_png(tmp_path / "own.png", np.zeros((2, 2), np.uint8), {"prompt": "«dog»"})
    assert read_settings(tmp_path / "own.png") == {"prompt": "«dog»"}


def test_half_written_generations_are_replaced(generation, tmp_path):
    """A kill in the middle leaves the marker and some files, one of them cut off; what is the user's stays."""
    whole = save_generations([generation], tmp_path / "whole")
    (tmp_path / "out").mkdir()
    half = dataclasses.replace(generation, model="another model")
    (tmp_path / "out" / UNFINISHED_NAME).write_text('["another-model-0.png", "another-model-1.png"]')
    (tmp_path / "out" / "another-model-0.png").write_bytes(b"cut off")
    check_folder(tmp_path / "out")
    files = save_generations([generation], tmp_path / "out")
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in whole]
    assert sorted((tmp_path / "out").iterdir()) == sorted(files)

    (tmp_path / "out" / UNFINISHED_NAME).write_text("[]")
    with pytest.raises(ValueError, match="already holds"):
        save_generations([half], tmp_path / "out")
    assert all(path.is_file() for path in files)


def test_generations_that_cannot_all_be_written_leave_none(generation, tmp_path):
    broken = dataclasses.replace(generation, images=generation.images.astype("complex64"))
    with pytest.raises(TypeError):
        save_generations([generation, dataclasses.replace(broken, model="last")], tmp_path / "out")
    assert not (tmp_path / "out").exists()
