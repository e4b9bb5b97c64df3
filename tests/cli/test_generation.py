import json

import pytest
from typer.testing import CliRunner

import explorer.cli.checkpoints
import explorer.cli.generation  # noqa: F401 - registers the commands
from explorer.cli.application import application
from explorer.generation.files import read_settings


def invoke(root, *arguments):
    options = [
        "--checkpoint",
        root / "benign",
        "--checkpoint",
        root / "dirty-002",
        "--steps",
        "2",
        *arguments,
    ]
    return CliRunner().invoke(application, ["generate", *map(str, options)])


def test_generate_writes_images_maps_and_json(checkpoint_root, tmp_path):
    result = invoke(checkpoint_root, "a dog", "--out", tmp_path / "out", "--seed", 5, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert [model["model"] for model in printed["models"]] == ["benign", "dirty-002"]
    assert [word["word"] for word in printed["models"][0]["words"]] == ["a", "dog", "[start]", "[end]"]
    assert sum(word["mass"] for word in printed["models"][0]["words"]) == pytest.approx(1, abs=1e-3)
    assert all(model["guidance"] > 0 for model in printed["models"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{model}-0{part}.png"
        for model in ("benign", "dirty-002")
        for part in ("", "-map-0-a", "-map-1-dog", "-guidance")
    )
    assert read_settings(tmp_path / "out" / "dirty-002-0.png")["request"]["seed"] == 5


def test_generate_prints_lines(checkpoint_root, tmp_path):
    result = invoke(checkpoint_root, "a dog", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == ["prompt", "a", "dog"]


def test_generate_draws_the_size_asked_for_or_the_models_own(checkpoint_root, tmp_path):
    from PIL import Image

    sizes = [((), (64, 64)), (("--height", 40, "--width", 56), (40, 56))]
    for options, (height, width) in sizes:
        out = tmp_path / f"{height}-{width}"
        result = invoke(checkpoint_root, "a dog", "--out", out, *options, "--json")
        assert result.exit_code == 0, result.output
        assert [(model["height"], model["width"]) for model in json.loads(result.stdout)["models"]] == [
            (height, width)
        ] * 2
        for name in ("benign-0.png", "dirty-002-0-map-1-dog.png"):
            with Image.open(out / name) as image:
                assert image.size == (width, height)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--height", 64), "only one of height and width is given: expected both or neither"),
        (("--height", 60, "--width", 64), "height is 60: expected a multiple of 8"),
        (("--height", 64, "--width", 4096), "width is 4096: expected a whole number from 8 to 2048"),
    ],
)
def test_generate_refuses_sizes_by_name(checkpoint_root, tmp_path, options, message):
    result = invoke(checkpoint_root, "a dog", "--out", tmp_path / "out", *options)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_generate_refuses_a_folder_in_use_before_it_loads_a_model(tmp_path):
    (tmp_path / "benign-0.png").write_bytes(b"mine")
    options = ["--checkpoint", tmp_path / "nowhere", "--out", tmp_path]
    result = CliRunner().invoke(application, ["generate", "a dog", *map(str, options)])
    assert isinstance(result.exception, ValueError)
    assert "already holds benign-0.png: choose a new folder with --out, or empty" in str(result.exception)
    assert (tmp_path / "benign-0.png").read_bytes() == b"mine"


def test_generate_refuses_what_the_model_cannot_read(checkpoint_root, tmp_path):
    result = invoke(checkpoint_root, "a zebra", "--out", tmp_path / "out")
    assert isinstance(result.exception, ValueError)
    assert "does not know the word 'zebra'" in str(result.exception)
    assert not (tmp_path / "out").exists()
