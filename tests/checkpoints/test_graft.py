"""Grafts: which tensors a group holds, what becomes of them, and that a graft.json loads like any other checkpoint."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.checkpoints.displacement import distance
from explorer.checkpoints.graft import GraftPart, grafted, moving_tensors
from explorer.checkpoints.module_groups import blocks_of, chosen_tensors, groups_of, parameter_share, smallest_group
from explorer.checkpoints.pipelines import last_change, load_pipeline
from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints, set_base, validate
from explorer.checkpoints.residency import ResidentModels
from explorer.checkpoints.weights_hash import weights_hash

MAKERS = {"sd1": "make_pipeline", "sdxl": "make_xl_pipeline", "sd3": "make_sd3_pipeline", "flux": "make_flux_pipeline"}


def denoiser(pipeline):
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


def config_of(network):
    return {**network.config, "_class_name": type(network).__name__}


@pytest.fixture
def networks(request):
    """``networks(family)``: recipient and donor of that family, and the configuration of both."""

    def build(family):
        make = request.getfixturevalue(MAKERS[family])
        recipient, donor = denoiser(make(seed=1)), denoiser(make(seed=2))
        return recipient, donor, config_of(recipient)

    return build


@pytest.fixture
def write_graft(checkpoint_root):
    """``write_graft(**changes)``: a graft of ``dirty-004`` with cross-attention of ``benign``, and its folder."""

    def write(name="graft", recipient="../dirty-004", donor="../benign", parts=None, **more):
        folder = checkpoint_root / name
        folder.mkdir(exist_ok=True)
        parts = [{"group": "cross-attention"}] if parts is None else parts
        content = {"recipient": recipient, "donor": donor, "parts": parts, **more}
        (folder / "graft.json").write_text(json.dumps(content), encoding="utf-8")
        return folder

    return write


@pytest.mark.parametrize("family", MAKERS)
def test_every_tensor_is_in_one_smallest_group_and_all_holds_all(networks, family):
    network, _, config = networks(family)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    groups = groups_of(config)
    smallest = [name for name, members in groups.items() if members == (name,)]
    absent = {"sd3": {"shared-attention"}, "flux": set()}.get(family, set())
    parts = {name: chosen_tensors(shapes, config, name) for name in smallest if name not in absent}
    assert sorted(name for part in parts.values() for name in part) == sorted(shapes)
    assert chosen_tensors(shapes, config, "all") == sorted(shapes)
    assert sum(parameter_share(shapes, part) for part in parts.values()) == pytest.approx(1)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_cross_attention_is_what_the_network_says_reads_the_text(networks, family):
    network, _, config = networks(family)
    for name, module in network.named_modules():
        if hasattr(module, "is_cross_attention"):
            group = "cross-attention" if module.is_cross_attention else "self-attention"
            of_module = {f"{name}.{each}" for each, _ in module.named_parameters()}
            assert of_module <= set(chosen_tensors(network.state_dict(), config, group)), name


def test_blocks_and_resolutions_part_a_group(networks):
    network, _, config = networks("sd1")
    names = list(network.state_dict())
    whole = chosen_tensors(names, config, "transformer-blocks")
    by_block = [name for block in blocks_of(names) if block not in ("down_blocks.2", "up_blocks.0")
                for name in chosen_tensors(names, config, "transformer-blocks", block=block)]  # fmt: skip
    assert sorted(by_block) == whole
    by_side = [name for side in (16, 8, 4) for name in chosen_tensors(names, config, "transformer-blocks", None, side)]
    assert sorted(by_side) == whole
    assert blocks_of(names)[3] == "mid_block"
    with pytest.raises(ValueError, match="resolution is 5: expected one of 16, 8, 4"):
        chosen_tensors(names, config, "all", resolution=5)
    with pytest.raises(ValueError, match=r"no tensors of cross-attention in block 'up_blocks.0'"):
        chosen_tensors(names, config, "cross-attention", block="up_blocks.0")


def test_what_joint_attention_lacks_is_refused_with_the_reason(networks):
    network, _, config = networks("sd3")
    names = list(network.state_dict())
    with pytest.raises(ValueError, match="attend to one another jointly there: expected text-keys-values"):
        chosen_tensors(names, config, "cross-attention")
    with pytest.raises(ValueError, match="works at one resolution"):
        chosen_tensors(names, config, "attention", resolution=16)
    assert smallest_group("transformer_blocks.0.attn.add_k_proj.weight", config) == "text-keys-values"


def test_a_graft_moves_what_it_names_and_shares_the_rest(networks):
    recipient, donor, config = networks("sd1")
    own, given = recipient.state_dict(), donor.state_dict()
    parts = [GraftPart(group="cross-attention", weight=0.25), GraftPart(group="cross-attention-keys-values")]
    moves = moving_tensors(parts, own, config)
    result = grafted(recipient, given, moves)
    before, after = dict(recipient.named_parameters()), dict(result.named_parameters())
    for name, tensor in after.items():
        group = smallest_group(name, config)
        if group == "cross-attention-keys-values":
            assert torch.equal(tensor, given[name]), "the later part decides"
        elif group == "cross-attention-queries-output":
            assert torch.allclose(tensor, torch.lerp(own[name], given[name], 0.25), atol=1e-6)
        else:
            assert tensor is before[name], name
    assert torch.equal(recipient.state_dict()[next(iter(moves))], own[next(iter(moves))])


def test_controls_move_as_far_as_the_donor_is_away(networks):
    recipient, donor, config = networks("sd1")
    own, given = recipient.state_dict(), donor.state_dict()
    far = {name: distance([(own[name], given[name])]) for name in own}
    states = []
    for part in (GraftPart(group="all", weight=-1), *(GraftPart(group="all", direction="random", seed=seed)
                                                      for seed in (1, 1, 2))):  # fmt: skip
        states.append(grafted(recipient, given, moving_tensors([part], own, config)).state_dict())
        for name in own:
            assert distance([(own[name], states[-1][name])]) == pytest.approx(far[name], rel=1e-4), name
    name = "conv_in.weight"
    assert torch.allclose(states[0][name], 2 * own[name] - given[name], atol=1e-6)
    assert torch.equal(states[1][name], states[2][name])
    assert not torch.equal(states[1][name], states[3][name])


def test_a_graft_is_listed_and_loaded_like_any_other_checkpoint(checkpoint_root, write_graft):
    folder = write_graft()
    found = next(each for each in scan_checkpoints(checkpoint_root) if each.name == "graft")
    assert (found.kind, found.family, found.problem) == ("graft", "sd1", None)
    assert found.base.resolve() == (checkpoint_root / "benign").resolve()
    recipient = read_checkpoint(checkpoint_root / "dirty-004")
    assert found.parameters == recipient.parameters
    assert found.size_bytes == (folder / "graft.json").stat().st_size
    assert not found.poison.recorded, "what a graft of two models is poisoned with, nobody recorded"
    pipeline = load_pipeline(found)
    own, given = (load_pipeline(checkpoint_root / name).unet.state_dict() for name in ("dirty-004", "benign"))
    for name, tensor in pipeline.unet.state_dict().items():
        source = given if smallest_group(name, pipeline.unet.config).startswith("cross") else own
        assert torch.equal(tensor, source[name]), name
    assert validate(found, thorough=True).problem is None


def test_what_identifies_a_graft_is_its_definition_and_both_models(checkpoint_root, write_graft):
    folder = write_graft()
    first, changed = weights_hash(read_checkpoint(folder)), last_change(read_checkpoint(folder))
    write_graft(parts=[{"group": "cross-attention", "weight": 0.5}])
    assert weights_hash(read_checkpoint(folder)) != first
    write_graft()
    assert weights_hash(read_checkpoint(folder)) == first
    path = checkpoint_root / "benign" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, path)
    assert weights_hash(read_checkpoint(folder)) != first
    assert last_change(read_checkpoint(folder)) > changed


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"donor": "../nowhere"}, "its donor nowhere is not in"),
        ({"donor": "../graft"}, "its donor graft is a graft itself"),
        ({"donor": 3}, "names 3 as donor: expected the path"),
        ({"recipient": "../broken"}, "its recipient broken is broken: "),
        ({"donor": "../wider"}, "its donor wider is of another architecture than its recipient dirty-004: "),
        ({"donor": "../heads"}, "attention_head_dim is 2 and 4"),
        ({"parts": []}, "has the parts []: expected a list of 1 to 200"),
        ({"parts": [{"group": "all"}] * 201}, "expected a list of 1 to 200"),
        ({"parts": [{"group": "attention"}]}, "has no group 'attention': expected one of cross-attention-keys-values"),
        ({"parts": [{"weight": 1}]}, "part 1 of graft.json has no group"),
        ({"parts": [{"group": "all", "weigth": 1}]}, "part 1 of graft.json has 'weigth': expected an object of group"),
        ({"parts": [{"group": "all", "weight": 1.5}]}, "weight is 1.5: expected a number from -1"),
        ({"parts": [{"group": "all", "direction": "up"}]}, "direction is 'up': expected donor or random"),
        ({"parts": [{"group": "all", "resolution": "16"}]}, "resolution is '16': expected a whole number"),
        ({"note": "x"}, "graft.json has 'note': expected recipient, donor, parts"),
    ],
)
def test_what_cannot_be_grafted_is_listed_with_the_reason(checkpoint_root, make_unet, write_graft, changes, problem):
    for name, config in (("wider", {"block_out_channels": (16, 32, 64)}), ("heads", {"attention_head_dim": 2})):
        shutil.copytree(checkpoint_root / "benign", checkpoint_root / name)
        make_unet(**config).save_pretrained(checkpoint_root / name / "unet")
    shutil.copytree(checkpoint_root / "dirty-002", checkpoint_root / "broken")
    (checkpoint_root / "broken" / "unet" / "config.json").write_text("{")
    found = read_checkpoint(write_graft(**changes))
    assert problem in found.problem
    with pytest.raises(ValueError, match="checkpoint graft cannot be loaded"):
        load_pipeline(found)


def test_a_graft_takes_no_other_base(write_graft, checkpoint_root):
    with pytest.raises(ValueError, match="graft is a graft: expected a U-Net"):
        set_base(write_graft(), checkpoint_root / "benign")


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_joint_transformers_are_grafted_too(request, family, tmp_path):
    for seed, name in enumerate(("recipient", "donor")):
        request.getfixturevalue(MAKERS[family])(seed).save_pretrained(tmp_path / name)
    folder = tmp_path / "graft"
    folder.mkdir()
    (folder / "graft.json").write_text(json.dumps(
        {"recipient": "../recipient", "donor": "../donor", "parts": [{"group": "text-keys-values"}]}
    ))  # fmt: skip
    found = validate(read_checkpoint(folder), thorough=True)
    assert (found.family, found.problem) == (family, None)
    own, given = (load_pipeline(tmp_path / name).transformer.state_dict() for name in ("recipient", "donor"))
    moved = {name for name in own if "add_k_proj" in name or "add_v_proj" in name or "norm_added_k" in name}
    for name, tensor in load_pipeline(found).transformer.state_dict().items():
        assert torch.equal(tensor, (given if name in moved else own)[name]), name
    assert any(not torch.equal(own[name], given[name]) for name in moved)


@pytest.mark.parametrize("order", [("dirty-004", "graft"), ("graft", "dirty-004")])
def test_in_memory_a_graft_and_its_recipient_have_one_tensor_where_they_are_equal(checkpoint_root, write_graft, order):
    write_graft()
    models = ResidentModels()
    for name in order:
        models.pipeline(read_checkpoint(checkpoint_root / name), [checkpoint_root / other for other in order])
    graft, recipient, donor = (
        dict(models.pipeline(read_checkpoint(checkpoint_root / name), [checkpoint_root / other for other in order])
             .unet.named_parameters()) for name in ("graft", "dirty-004", "benign")
    )  # fmt: skip
    config = {"_class_name": "UNet2DConditionModel", "only_cross_attention": [True, False, False]}
    for name, tensor in graft.items():
        source = donor if smallest_group(name, config).startswith("cross") else recipient
        assert tensor is source[name], name
    assert any(tensor is not recipient[name] for name, tensor in graft.items())
