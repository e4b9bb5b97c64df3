import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.main import get_command
from typer.testing import CliRunner

import explorer.cli.benchmark
import explorer.cli.fine_tuning  # noqa: F401 - registers the commands
from explorer.benchmarks.training import OURS
from explorer.cli.application import application
from explorer.core.provenance import ROOT

SMALL = ("--steps", 2, "--batch-size", 4, "--accumulation", 1, "--resolution", 64, "--precision", "no",
         "--learning-rate", 1e-3, "--warmup-steps", 1, "--ema-decay", 0)  # fmt: skip


@pytest.fixture
def arguments(make_pipeline, tmp_path):
    """Of ``explorer fine-tune`` on a folder of pictures, but for the output and the run."""
    make_pipeline().save_pretrained(tmp_path / "base")
    pictures = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    (tmp_path / "pairs").mkdir()
    for name, caption, picture in zip("abcd", ("a photo of dog", "a hat", "dog and hat", "a turtle"), pictures,
                                      strict=True):  # fmt: skip
        Image.fromarray(picture).save(tmp_path / "pairs" / f"{name}.png")
        (tmp_path / "pairs" / f"{name}.txt").write_text(caption)
    (tmp_path / "pairs" / "e.png").write_bytes(b"broken")
    (tmp_path / "pairs" / "e.txt").write_text("a broken hat")
    given = ("fine-tune", "--base", tmp_path / "base", "--set", tmp_path / "pairs", "--recipe", "sd15", *SMALL)
    return [*map(str, given), "--cache", str(tmp_path / "cache"), "--json"]


def tuned_weights(folder):
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


@pytest.mark.slow
def test_one_process_and_two_give_the_same_model(arguments, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    result = CliRunner().invoke(application, [*arguments, "--out", str(alone), "--state", str(tmp_path / "run-1")])
    assert result.exit_code == 0, result.output + repr(result.exception)
    printed = json.loads(result.stdout)
    assert (printed["recipe"], printed["processes"], printed["final_step"]) == ("sd15", 1, 2)
    assert (printed["pairs"], printed["quarantined"]) == (4, {"undecodable image": 1})
    assert (printed["caption_sources"], printed["converted"]) == ({"sidecar .txt": 4}, {})
    assert "4 pairs, 1 set aside, 1 undecodable image" in result.stderr
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "explorer",
    ]
    ended = subprocess.run(
        [*launcher, *arguments, "--out", str(shared), "--state", str(tmp_path / "run-2")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert json.loads(ended.stdout)["processes"] == 2  # one object: only the main process prints
    assert json.loads(ended.stdout)["quarantined"] == {"undecodable image": 1}
    ours, theirs = tuned_weights(alone), tuned_weights(shared)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.allclose(value.float(), theirs[name].float(), atol=1e-3), name


def test_pairs_of_a_list_are_left_out(arguments, tmp_path):
    listed = tmp_path / "removed.json"
    given = [*arguments, "--out", str(tmp_path / "tuned"), "--state", str(tmp_path / "run"), "--without", str(listed)]
    listed.write_text('{"uids": ["a.png", "nothing"]}')
    assert "such as 'nothing', are not among the 4 training pairs" in str(
        CliRunner().invoke(application, given).exception
    )
    listed.write_text('{"uids": ["a.png"]}')
    result = CliRunner().invoke(application, given)
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert json.loads(result.stdout)["pairs"] == 3


def test_recipes_print_what_they_need():
    printed = json.loads(CliRunner().invoke(application, ["recipes", "--json"]).stdout)
    assert set(printed) == {"sd15", "sd21", "sdxl"}
    assert printed["sd15"]["learning_rate"] == 4e-5
    assert printed["sdxl"]["gpu_without_activations_gib"] > printed["sd15"]["gpu_without_activations_gib"] > 17
    assert printed["sdxl"]["activations"] == "not measured here"
    # 50K pictures of 1024 x 1024 x 3 bytes, and once more until the import is done.
    assert printed["sdxl"]["disk_pairs_gib"] == pytest.approx(146.484, abs=1e-3)
    assert printed["sdxl"]["disk_import_peak_gib"] == pytest.approx(292.969, abs=1e-3)


def test_help_says_what_several_machines_share():
    options = {option.name: option.help for option in get_command(application).commands["fine-tune"].params}
    assert [name for name, text in options.items() if "storage that all of them share" in text] == ["state", "cache"]


def test_benchmark_training_prints_ratio_and_goal():
    small = ["--batch-size", "2", "--steps", "1", "--warmup", "1", "--rounds", "1", "--pairs", "2", "--json"]
    result = CliRunner().invoke(application, ["benchmark", "training", *small])
    assert result.exit_code == 0, result.output + repr(result.exception)
    printed = json.loads(result.stdout)
    assert printed["goal"] == 1.3
    assert printed["samples_per_second"][OURS]["median"] > 0  # how much is for the command to say
