"""Grafts of single files: of the same weights they are what grafts of folders are, to the bit."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.checkpoints.kinds.graft import misfit
from explorer.checkpoints.module_groups import smallest_group
from explorer.checkpoints.original_names import original_names
from explorer.checkpoints.pipelines import last_change, load_pipeline
from explorer.checkpoints.registry import read_checkpoint, set_base, validate
from explorer.checkpoints.residency import ResidentModels
from explorer.checkpoints.weight_files import WeightError
from explorer.checkpoints.weights_hash import weights_hash
from tests.graft_files import write_graft
from tests.original_layout import original_layout, save, unet_name

OPTIONS = {
    "sd1": {"only_cross_attention": False},
    "sd2": {"use_linear_projection": True, "attention_head_dim": (2, 4, 4), "only_cross_attention": False},
}


@pytest.fixture
def build(make_pipeline, make_xl_pipeline, tmp_path):
    """``build(family)``: folders ``recipient`` and ``donor`` with different weights everywhere, and the same
    as single files on a base without weights; returns where they lie."""

    def made(family="sd1"):
        for seed, name in enumerate(("base", "recipient", "donor")):
            pipeline = make_xl_pipeline(seed, 48) if family == "sdxl" else make_pipeline(seed, **OPTIONS[family])
            with torch.no_grad():
                for network in (pipeline.vae, pipeline.text_encoder):
                    next(network.parameters()).mul_(1 + 0.1 * seed)
            pipeline.save_pretrained(tmp_path / name)
            save(original_layout(pipeline, family), tmp_path / f"{name}.safetensors")
        for path in (tmp_path / "base").rglob("*.safetensors"):
            path.unlink()
        for name in ("recipient", "donor"):
            set_base(tmp_path / f"{name}.safetensors", tmp_path / "base")
        return tmp_path

    return made


def states(pipeline):
    return {part: getattr(pipeline, part).state_dict() for part in ("unet", "vae", "text_encoder")}


@pytest.mark.parametrize(("family", "layers"), [("sd1", 1), ("sd1", 2), ("sd2", 3), ("sdxl", 1), ("sdxl", 2)])
def test_every_original_name_is_found_by_what_diffusers_calls_it(make_unet, make_xl_pipeline, family, layers):
    xl = {name: value for name, value in make_xl_pipeline().unet.config.items() if not name.startswith("_")}
    unet = make_unet(**(xl if family == "sdxl" else OPTIONS[family]) | {"layers_per_block": layers})
    has_attention = ["CrossAttn" in block for block in unet.config.up_block_types]
    names = {name: f"model.diffusion_model.{unet_name(name, layers, has_attention)}" for name in unet.state_dict()}
    assert original_names([*names.values(), "first_stage_model.decoder.conv_in.weight"], layers) == names
    with pytest.raises(WeightError, match=r"model\.diffusion_model\.gone\.weight has no place of its own"):
        original_names([*names.values(), "model.diffusion_model.gone.weight"], layers)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_single_file_gives_and_takes_what_a_folder_of_its_weights_does(build, family, no_network):
    root = build(family)
    expected = states(load_pipeline(write_graft(root, "recipient", "donor")))
    for one in ("recipient", "recipient.safetensors"):
        for other in ("donor", "donor.safetensors"):
            graft = read_checkpoint(write_graft(root, one, other))
            assert (graft.kind, graft.family, graft.problem) == ("graft", family, None)
            found = states(load_pipeline(graft))
            for part, state in expected.items():
                assert state.keys() == found[part].keys()
                assert all(torch.equal(tensor, found[part][name]) for name, tensor in state.items()), (one, other, part)
    assert validate(graft, thorough=True).problem is None
    own, given = (load_pipeline(root / name).unet.state_dict() for name in ("recipient", "donor"))
    assert torch.equal(expected["unet"]["conv_in.weight"], given["conv_in.weight"])
    assert torch.equal(expected["unet"]["time_embedding.linear_1.bias"], own["time_embedding.linear_1.bias"])


def test_what_identifies_it_covers_the_files_that_it_reads(build):
    root = build()
    folder = write_graft(root, "recipient.safetensors", "donor.safetensors")
    for name in ("recipient", "donor"):
        first, changed = weights_hash(read_checkpoint(folder)), last_change(read_checkpoint(folder))
        path = root / f"{name}.safetensors"
        save_file({key: tensor + 1 for key, tensor in load_file(path).items()}, path)
        assert weights_hash(read_checkpoint(folder)) != first
        assert last_change(read_checkpoint(folder)) > changed


@pytest.mark.parametrize("first", ["graft", "recipient"])
def test_in_memory_it_shares_what_it_does_not_move_with_a_single_file(build, first):
    root = build()
    folder = write_graft(root, "recipient.safetensors", "donor", [{"group": "cross-attention"}])
    places = {"graft": folder, "recipient": root / "recipient.safetensors", "donor": root / "donor"}
    models = ResidentModels()
    for name in dict.fromkeys((first, *places)):
        models.pipeline(read_checkpoint(places[name]), list(places.values()))
    pipelines = {name: models.pipeline(read_checkpoint(place), list(places.values()))
                 for name, place in places.items()}  # fmt: skip
    own, given = (dict(pipelines[name].unet.named_parameters()) for name in ("recipient", "donor"))
    for name, tensor in pipelines["graft"].unet.named_parameters():
        moved = smallest_group(name, {"_class_name": "UNet2DConditionModel"}).startswith("cross-attention")
        assert tensor is (given if moved else own)[name], name
    assert pipelines["graft"].vae is pipelines["recipient"].vae


def test_what_does_not_fit_is_told_by_headers_alone(build, make_pipeline, tmp_path, monkeypatch):
    root = build()
    make_pipeline(block_out_channels=(16, 32, 64), **OPTIONS["sd1"]).save_pretrained(root / "wider")
    make_pipeline(attention_head_dim=2, **OPTIONS["sd1"]).save_pretrained(root / "heads")
    monkeypatch.setattr("explorer.checkpoints.denoiser.safe_open", None)
    for donor, words in (("wider", "is of another architecture than its recipient recipient.safetensors: "),
                         ("heads", "attention_head_dim is 2 and 4"),
                         ("nothing.safetensors", "its donor nothing.safetensors is not in")):  # fmt: skip
        assert words in read_checkpoint(write_graft(root, "recipient.safetensors", donor)).problem
    found = {name: read_checkpoint(root / name) for name in ("recipient", "donor.safetensors")}
    headers = found["donor.safetensors"].headers
    shapes = headers["file"].shapes | {"model.diffusion_model.gone.weight": (3,)}
    odd = replace(found["donor.safetensors"], headers={"file": replace(headers["file"], shapes=shapes)})
    assert misfit([], found["recipient"], odd) == (
        "its donor donor.safetensors is of another architecture than its recipient recipient: "
        "model.diffusion_model.gone.weight has no place of its own in diffusers' U-Net: expected the original's"
    )
    (root / "donor.manifest.json").unlink()
    problem = read_checkpoint(write_graft(root, "recipient", "donor.safetensors")).problem
    assert "its donor donor.safetensors is broken: a single file holds neither tokenizer nor configuration" in problem


def test_a_base_whose_blocks_differ_in_depth_is_told(build):
    root = build()
    config = root / "base" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layers_per_block": [1, 1, 1]}))
    problem = read_checkpoint(write_graft(root, "recipient", "donor.safetensors")).problem
    assert "the U-Net of its base base has layers_per_block [1, 1, 1]: expected one number" in problem
