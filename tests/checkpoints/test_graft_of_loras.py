"""Grafts of LoRAs: they give and take what whole folders of the same weights do, to the bit."""

import json
import logging

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from explorer.checkpoints.displacement import distance
from explorer.checkpoints.lora import networks_changed
from explorer.checkpoints.module_groups import smallest_group
from explorer.checkpoints.pipelines import last_change, load_pipeline
from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints, set_base, validate
from explorer.checkpoints.residency import ResidentModels
from explorer.checkpoints.weights_hash import hash_of_model, weights_hash
from explorer.core.provenance import hash_file, write_json
from explorer.studies.fingerprints import checkpoint_fingerprint
from explorer.surgery.operations import operations_between
from tests.graft_files import PARTS, write_graft
from tests.low_rank import EVERYTHING, TARGETS, kohya_layout, low_rank_pairs, peft_layout, without_alphas

SD2 = {"use_linear_projection": True, "attention_head_dim": (2, 4, 4), "only_cross_attention": False}
ALL = [{"group": "all"}]


def of_one_rank(pairs):
    """As diffusers merges them rightly: of one rank and alpha throughout."""
    kept = {name: pair for name, pair in pairs.items() if "time_emb_proj" not in name}
    return {name: (down[:1], up[:, :1].contiguous(), 1.0) for name, (down, up, _) in kept.items()}


@pytest.fixture
def build(make_pipeline, make_xl_pipeline, tmp_path):
    """``build(family, text)``: folders ``one`` and ``two`` of different weights, and a LoRA on each, ``one-lora`` with
    text encoders if ``text`` says so; where they lie."""

    def made(family="sd1", text=True, scale=0.5):
        for seed, name in enumerate(("one", "two")):
            pipeline = make_xl_pipeline(seed, 48) if family == "sdxl" else make_pipeline(
                seed, **(SD2 if family == "sd2" else {}))  # fmt: skip
            with torch.no_grad():
                pipeline.text_encoder.get_input_embeddings().weight.mul_(1 + 0.1 * seed)
            pipeline.save_pretrained(tmp_path / name)
            endings = EVERYTHING if seed else TARGETS
            tensors = peft_layout(of_one_rank(low_rank_pairs(pipeline.unet, endings, seed)), "unet")
            for encoder in [each for each in ("text_encoder", "text_encoder_2") if text and hasattr(pipeline, each)]:
                pairs = of_one_rank(low_rank_pairs(getattr(pipeline, encoder), ("q_proj", "v_proj"), seed))
                tensors |= peft_layout(pairs, encoder)
            (tmp_path / f"{name}-lora").mkdir()
            save_file(tensors, tmp_path / f"{name}-lora" / "pytorch_lora_weights.safetensors")
            config = {"base": name, "scale": scale}
            write_json(tmp_path / f"{name}-lora" / "manifest.json", {"kind": "checkpoint", "config": config})
        return tmp_path

    return made


def states(pipeline):
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    return {part: getattr(pipeline, part).state_dict() for part in parts if getattr(pipeline, part, None) is not None}


def text_moved(pipeline, other):
    """Whether their text encoders differ."""
    weights = other.text_encoder.state_dict()
    return any(not torch.equal(tensor, weights[name]) for name, tensor in pipeline.text_encoder.state_dict().items())


def fused(root, name, scale=0.5):
    """The LoRA on ``name``, merged by diffusers and saved as a folder beside the others."""
    stock = DiffusionPipeline.from_pretrained(root / name)
    folder, file = root / f"{name}-lora", "pytorch_lora_weights.safetensors"
    stock.load_lora_weights(str(folder), weight_name=file, local_files_only=True)
    stock.fuse_lora(lora_scale=scale)
    stock.unload_lora_weights()
    stock.save_pretrained(root / f"{name}-fused")


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_lora_gives_and_takes_what_diffusers_fuses_of_it(build, family, no_network):
    pytest.importorskip("peft", reason="diffusers fuses with peft")
    root = build(family)
    for name in ("one", "two"):
        fused(root, name)
    for recipient, donor in (("one-lora", "two-lora"), ("one", "one-lora"), ("one-lora", "one"), ("two", "one-lora")):
        graft = read_checkpoint(write_graft(root, recipient, donor))
        assert (graft.kind, graft.family, graft.problem) == ("graft", family, None)
        whole = [name.replace("lora", "fused") for name in (recipient, donor)]
        found, expected = (states(load_pipeline(each)) for each in (graft, write_graft(root, *whole)))
        for part, state in expected.items():
            assert state.keys() == found[part].keys()
            for name, tensor in state.items():
                assert torch.allclose(tensor, found[part][name], atol=1e-6), (recipient, donor, part, name)
    assert validate(graft, thorough=True).problem is None


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_every_tensor_is_to_the_bit_that_of_the_pipeline_that_it_comes_from(build, dtype):
    root = build()
    own, given, base = (load_pipeline(root / name, dtype=dtype) for name in ("one-lora", "two-lora", "one"))
    found = load_pipeline(write_graft(root, "one-lora", "two-lora", PARTS[1:]), dtype=dtype)
    for name, tensor in found.unet.state_dict().items():
        moved = smallest_group(name, found.unet.config) in ("convolutions", "feed-forward")
        assert torch.equal(tensor, (given if moved else own).unet.state_dict()[name]), name
    for name, tensor in found.text_encoder.state_dict().items():
        assert torch.equal(tensor, own.text_encoder.state_dict()[name]), name
    assert text_moved(own, base)


def test_of_a_lora_over_the_recipient_only_what_it_changes_is_in_memory_twice(build):
    root = build()
    places = {name: root / name for name in ("one", "one-lora")} | {"graft": write_graft(root, "one", "one-lora", ALL)}
    models = ResidentModels()
    pipelines = {name: models.pipeline(read_checkpoint(place), list(places.values())) for name, place in places.items()}
    base, merged, graft = (dict(pipelines[name].unet.named_parameters()) for name in places)
    for name, tensor in graft.items():
        touched = name.removesuffix(".weight").endswith(TARGETS) and name.endswith(".weight")
        assert (tensor is base[name]) != touched, name
        assert tensor is merged[name], name
        assert not (touched and torch.equal(merged[name], base[name])), name
    assert pipelines["graft"].text_encoder is pipelines["one"].text_encoder
    alone = load_pipeline(places["graft"], shared=(shared := {}))
    (whole,) = shared.values()
    own = dict(whole.unet.named_parameters())
    assert sum(tensor is own[name] for name, tensor in alone.unet.named_parameters()) == sum(
        tensor is base[name] for name, tensor in graft.items()
    )


def test_the_distance_is_that_of_the_update(build):
    root = build()
    models = [read_checkpoint(root / name) for name in ("one", "one-lora")]
    operations = {each.name: each for each in operations_between(*models, strip=False)}
    base, merged = (load_pipeline(root / name).unet.state_dict() for name in ("one", "one-lora"))
    assert operations["all"].distance == pytest.approx(distance((base[name], merged[name]) for name in base))
    assert operations["feed-forward"].distance == 0, "it leaves these alone"


def test_what_identifies_it_covers_file_base_and_strength(build):
    root = build(text=False)
    folder = write_graft(root, "one", "two-lora")

    def known():
        graft = read_checkpoint(folder)
        return weights_hash(graft), checkpoint_fingerprint(graft)

    lora, found = root / "two-lora" / "pytorch_lora_weights.safetensors", [known()]
    changed = last_change(read_checkpoint(folder))
    models = ResidentModels()
    before = models.pipeline(read_checkpoint(folder)).unet.state_dict()["conv_in.weight"].clone()
    config = {"base": "two", "scale": 0.25}
    write_json(root / "two-lora" / "manifest.json", {"kind": "checkpoint", "config": config})
    found.append(known())
    assert not torch.equal(models.pipeline(read_checkpoint(folder)).unet.state_dict()["conv_in.weight"], before)
    pairs = low_rank_pairs(load_pipeline(root / "two").unet, ("conv_in",), seed=9)
    save_file(kohya_layout(pairs), lora)
    found.append(known())
    assert last_change(read_checkpoint(folder)) > changed
    path = root / "two" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_pipeline(root / "two").unet.state_dict().items()}, path)
    found.append(known())
    for hashes in zip(*found, strict=True):
        assert len(set(hashes)) == 4, hashes


def test_records_give_the_hash_that_reading_every_file_gives(build):
    root = build()
    for folder in (root / "one", root / "two-lora"):
        files = {path.relative_to(folder).as_posix(): hash_file(path) for path in folder.rglob("*.safetensors")}
        config = {} if folder.name == "one" else {"base": "one", "scale": 2}
        write_json(folder / "manifest.json", {"kind": "checkpoint", "config": config, "files": files})
    graft = read_checkpoint(write_graft(root, "one", "two-lora"))
    assert graft.hash == weights_hash(graft)
    lora = read_checkpoint(root / "two-lora")
    assert hash_of_model(lora, lora.hash, read_checkpoint(root / "one").hash) != lora.hash


def test_a_donor_s_base_is_compared_with_its_record(build):
    root = build()
    manifest = {"kind": "checkpoint", "files": {"unet/diffusion_pytorch_model.safetensors": "0" * 64}}
    write_json(root / "two" / "manifest.json", manifest)
    with pytest.raises(ValueError, match=r"its donor's base two is broken: .*diffusion_pytorch_model"):
        load_pipeline(write_graft(root, "one", "two-lora"))


def test_what_a_donor_changes_in_text_encoders_stays_behind_and_is_told(build, caplog):
    root = build("sdxl")
    (root / "one-lora").rename(root / "told-once")  # no other test told this
    graft = read_checkpoint(write_graft(root, "two", "told-once"))
    told = "its donor told-once also changes text_encoder and text_encoder_2, where a graft has what its recipient has"
    assert (graft.problem, graft.caveat) == (None, told)
    with caplog.at_level(logging.WARNING):
        pipelines = [load_pipeline(graft), load_pipeline(graft)]
    assert [record.message for record in caplog.records].count(f"a graft: {told}") == 1
    own = states(load_pipeline(root / "two"))
    for encoder in ("text_encoder", "text_encoder_2"):
        assert all(torch.equal(tensor, own[encoder][name]) for name, tensor in states(pipelines[0])[encoder].items())
    assert read_checkpoint(write_graft(root, "told-once", "two")).caveat is None, "a recipient's update is merged"
    listed = {each.name: each for each in scan_checkpoints(root)}
    assert listed["two+told-once"].caveat == told


def test_a_lora_of_text_encoders_alone_is_no_donor_but_a_recipient(build):
    root = build()
    encoder = load_pipeline(root / "one").text_encoder
    tensors = peft_layout(without_alphas(low_rank_pairs(encoder, ("q_proj",))), "text_encoder")
    save_file(tensors, root / "one-lora" / "pytorch_lora_weights.safetensors")
    assert read_checkpoint(write_graft(root, "two", "one-lora")).problem == (
        "its donor one-lora changes text_encoder alone: expected one that changes unet"
    )
    found = load_pipeline(write_graft(root, "one-lora", "two", [{"group": "convolutions"}]))
    assert text_moved(found, load_pipeline(root / "one"))


@pytest.mark.parametrize("named", [True, False])
def test_peft_s_own_folders_are_donors_by_what_they_change(build, named):
    peft = pytest.importorskip("peft", reason="which writes the folder")
    root = build()
    whole = load_pipeline(root / "one")
    for component, targets, changed in (
        ("unet", ["to_k", "conv1"], ("unet",)),
        ("text_encoder", ["q_proj"], ("text_encoder",)),
    ):
        folder = root / f"adapter-{component}"
        network = getattr(whole, component)
        peft.get_peft_model(
            network, peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
        ).save_pretrained(folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config if named else config | {"auto_mapping": None}))
        assert networks_changed(set_base(folder, root / "one")) == changed
    graft, lora = (
        load_pipeline(each) for each in (write_graft(root, "one", "adapter-unet", ALL), root / "adapter-unet")
    )
    assert all(torch.equal(tensor, lora.unet.state_dict()[name]) for name, tensor in graft.unet.state_dict().items())
    assert "changes text_encoder alone" in read_checkpoint(write_graft(root, "one", "adapter-text_encoder")).problem


def test_what_cannot_be_grafted_is_told_by_headers_alone(build, make_pipeline, monkeypatch):
    root = build()
    make_pipeline(block_out_channels=(16, 32, 64)).save_pretrained(root / "wider")
    for module in ("denoiser", "lora"):
        monkeypatch.setattr(f"explorer.checkpoints.{module}.safe_open", None)
    assert "is of another architecture than its recipient wider: " in (
        read_checkpoint(write_graft(root, "wider", "one-lora")).problem
    )
    (root / "two-lora" / "manifest.json").unlink()
    for recipient, donor, role in (("two-lora", "one", "recipient"), ("one", "two-lora", "donor")):
        assert read_checkpoint(write_graft(root, recipient, donor)).problem == (
            f"its {role} two-lora is broken: it is a LoRA, which changes another model: name the pipeline folder of "
            "the family SD 1.x with `explorer set-base`"
        )


@pytest.mark.parametrize("roles", [("one", "two-lora"), ("two-lora", "one")])
def test_one_that_does_not_fit_its_base_is_refused_where_it_is_read(build, roles):
    root = build()
    file = root / "two-lora" / "pytorch_lora_weights.safetensors"
    save_file({f"unet.nowhere.to_q.lora_{part}.weight": torch.ones(1, 1) for part in "AB"}, file)
    graft = write_graft(root, *roles)
    with pytest.raises(ValueError, match=r"two-lora.*it does not fit its base two: unet\.nowhere\.to_q has no place"):
        load_pipeline(graft)
    assert "nowhere.to_q has no place" in validate(read_checkpoint(graft), thorough=True).problem
