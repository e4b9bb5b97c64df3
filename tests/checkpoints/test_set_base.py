import json

import pytest
import torch

from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints, set_base
from tests.checkpoints.test_registry import UNET, edit_json, rewrite


@pytest.fixture
def dropped(checkpoint_root, make_unet):
    """A folder with nothing but a U-Net, as somebody else's poisoning run leaves it."""
    make_unet(seed=9).save_pretrained(checkpoint_root / "theirs" / "unet")
    return checkpoint_root / "theirs"


def test_set_base_makes_a_dropped_unet_usable(checkpoint_root, dropped):
    assert "name one with `explorer set-base`" in read_checkpoint(dropped).problem
    found = set_base(dropped, checkpoint_root / "benign")
    assert (found.kind, found.problem) == ("unet", None)
    assert json.loads((dropped / "manifest.json").read_text()) == {"kind": "checkpoint", "config": {"base": "benign"}}
    assert {entry.name: entry.problem for entry in scan_checkpoints(checkpoint_root)}["theirs"] is None


def test_set_base_keeps_everything_else_in_the_manifest(checkpoint_root):
    path = checkpoint_root / "dirty-004" / "manifest.json"
    before = json.loads(path.read_text())
    edit_json(path, config=before["config"] | {"base": "../gone"}, notes={"by": "<b>somebody</b>"})
    kept = json.loads(path.read_text())
    assert set_base(checkpoint_root / "dirty-004", checkpoint_root / "benign").poison.concept_count == 4
    assert json.loads(path.read_text()) == kept | {"config": kept["config"] | {"base": "benign"}}


def test_a_base_behind_a_link_is_named_absolutely(checkpoint_root, dropped, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    dropped.rename(elsewhere / "theirs")
    (checkpoint_root / "linked").symlink_to(elsewhere)
    assert set_base(checkpoint_root / "linked" / "theirs", checkpoint_root / "benign").problem is None


def wrong_base():
    def other_text(folder, make_unet):
        make_unet(cross_attention_dim=24).save_pretrained(folder / "unet")

    def other_latents(folder, make_unet):
        make_unet(in_channels=9).save_pretrained(folder / "unet")

    def other_family(folder, make_unet):
        make_unet(use_linear_projection=True).save_pretrained(folder / "unet")

    def other_shape(folder, make_unet):
        rewrite(folder / UNET, lambda tensors: tensors.update({"conv_in.bias": torch.zeros(3)}))

    def bad_manifest(folder, make_unet):
        (folder / "manifest.json").write_text("{")

    def other_prediction(folder, make_unet):
        (folder / "manifest.json").write_text(json.dumps({"config": {"prediction_type": "epsilon"}}))

    def bad_config(folder, make_unet):
        (folder / "manifest.json").write_text(json.dumps({"config": ["base"]}))

    return [
        (other_text, "theirs cannot stand on benign: its U-Net reads text of width 24, that of its base benign 32"),
        (other_latents, "its U-Net reads latents of 9 channels, that of its base benign 4"),
        (other_family, "it is of the family SD 2.x: its base benign is SD 1.x"),
        (other_shape, "unet has conv_in.bias of shape [3]: its configuration says [16]"),
        (bad_manifest, "is not readable JSON"),
        (bad_config, "config in its manifest is ['base'], expected an object"),
        (other_prediction, "it was trained for epsilon: the scheduler of its base benign follows v_prediction"),
    ]


@pytest.mark.parametrize(("breakage", "message"), wrong_base())
def test_set_base_refuses_what_does_not_fit_and_changes_nothing(checkpoint_root, dropped, make_unet, breakage, message):
    breakage(dropped, make_unet)
    before = {path: path.read_bytes() for path in dropped.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"theirs cannot stand on benign") as error:
        set_base(dropped, checkpoint_root / "benign")
    assert message in str(error.value)
    assert {path: path.read_bytes() for path in dropped.rglob("*") if path.is_file()} == before


def test_set_base_names_what_is_missing_whole_or_not_writable(checkpoint_root, dropped):
    with pytest.raises(ValueError, match="nowhere does not exist: expected a checkpoint folder"):
        set_base(checkpoint_root / "nowhere", checkpoint_root / "benign")
    with pytest.raises(ValueError, match="benign is a pipeline folder: expected a U-Net, a single file or a LoRA"):
        set_base(checkpoint_root / "benign", checkpoint_root / "benign")
    with pytest.raises(ValueError, match="its base pipeline nowhere is not in"):
        set_base(dropped, checkpoint_root / "nowhere")
    (dropped / "manifest.json").mkdir()
    with pytest.raises(ValueError, match=r"theirs/manifest\.json is not readable JSON: .* it is no regular file"):
        set_base(dropped, checkpoint_root / "benign")
    assert sorted(path.name for path in dropped.iterdir()) == ["manifest.json", "unet"]
