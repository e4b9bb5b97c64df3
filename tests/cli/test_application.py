"""How the command line ends when something a user can mend is wrong."""

import pytest
import torch

from explorer.benchmarks.embeddings import write_benchmark_shard
from explorer.cli import application as cli

OPEN_CLIP = ("--open-clip", "ViT-S-32-alt", "--weights", "w.safetensors")
COMMANDS = {
    "features": ("features", "set"),
    "features of an open_clip model": ("features", "set", *OPEN_CLIP),
    "calibrate": ("calibrate", "set"),
    "embed": ("embed", "scenes.tar", "store", "--extractor", "extractor"),
    "benchmark embeddings": ("benchmark", "embeddings"),
    "benchmark capture": ("benchmark", "capture", "--architecture", "sd15"),
    "benchmark training": ("benchmark", "training"),
    "generate": ("generate", "a photo of a dog", "--out", "pictures"),
    "generate with offload": ("generate", "a photo of a dog", "--offload", "model", "--out", "pictures"),
    "train": ("train", "cpu", "--stage", "fine-tuning", "--run", "run"),
}
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=without_gpu), "gpu"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_is_not_there_is_one_line_and_status_two(command, device, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_benchmark_shard(tmp_path / "scenes.tar", pairs=1, side=64, seed=0)
    monkeypatch.setattr("sys.argv", ["explorer", *COMMANDS[command], "--device", device])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: device {device} cannot be used on this machine: ")
    assert printed.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scenes.tar"]
