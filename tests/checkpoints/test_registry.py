import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.checkpoints import weight_checks
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints, validate
from explorer.core.poison_record import NOT_RECORDED
from explorer.core.provenance import ROOT, write_manifest

UNET = "unet/diffusion_pytorch_model.safetensors"


def rewrite(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def edit_header(path, name, **changes):
    """Rewrite the entry of one tensor in a safetensors header; the data stay."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header[name] |= changes
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[end:])


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_scan_finds_sound_checkpoints_in_order(checkpoint_root):
    (checkpoint_root / "extractor").mkdir()
    found = scan_checkpoints(checkpoint_root)
    assert [(checkpoint.name, checkpoint.poison.concept_count) for checkpoint in found] == [
        ("benign", 0),
        ("dirty-002", 2),
        ("dirty-004", 4),
    ]
    assert [validate(checkpoint, thorough=True).problem for checkpoint in found] == [None] * 3
    assert found[1].poison.names == ("dog", "hat")
    assert [checkpoint.poison.recorded for checkpoint in found] == [True] * 3
    assert found[1].base == checkpoint_root / "benign"
    assert found[0].parameters == sum(tensor.numel() for tensor in load_file(found[0].folder / UNET).values())
    assert found[1].size_bytes == (found[1].folder / UNET).stat().st_size < found[0].size_bytes


def test_a_scan_parses_every_file_once_though_several_checkpoints_stand_on_one_base(checkpoint_root, opened):
    assert len(scan_checkpoints(checkpoint_root)) == 3
    assert set(opened.values()) == {1}, f"{opened.total()} openings of {len(opened)} files"


def test_without_a_record_of_poison_a_model_is_not_called_benign(checkpoint_root):
    (checkpoint_root / "benign" / "manifest.json").unlink()
    found = read_checkpoint(checkpoint_root / "benign")
    assert found.poison == NOT_RECORDED


def test_names_are_relative_to_the_root(checkpoint_root):
    assert next(iter(scan_checkpoints(checkpoint_root.parent))).name == "checkpoints/benign"
    assert [found.name for found in scan_checkpoints(checkpoint_root / "benign")] == ["benign"]
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        scan_checkpoints(checkpoint_root / "nowhere")


def test_scan_imports_neither_torch_nor_diffusers(checkpoint_root):
    program = (
        "import sys; from explorer.checkpoints.registry import scan_checkpoints;"
        f"assert len(scan_checkpoints({str(checkpoint_root)!r})) == 3;"
        "print(sorted({'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def broken_files():
    def truncate(folder):
        path = folder / UNET
        path.write_bytes(path.read_bytes()[:-100])

    def pickle_instead(folder):
        (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin")

    def no_config(folder):
        (folder / "unet" / "config.json").unlink()

    def no_weights(folder):
        (folder / UNET).unlink()

    def shape_in_words(folder):
        edit_header(folder / UNET, "conv_in.bias", shape=["16"])

    def numbered_shards(folder):
        (folder / UNET).unlink()
        index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"conv_in.bias": 1, "conv_in.weight": "a.safetensors"}}))

    return [
        (truncate, "diffusion_pytorch_model.safetensors is truncated: it has"),
        (pickle_instead, "diffusion_pytorch_model.bin is a pickle"),
        (no_config, "unet/config.json is missing"),
        (no_weights, "unet/ holds no .safetensors weights"),
        (shape_in_words, "is not a safetensors file: its header is not readable"),
        (numbered_shards, "index.json lists no shards"),
    ]


def broken_manifests():
    def no_manifest(folder):
        (folder / "manifest.json").unlink()

    def other_base(folder):
        edit_json(folder / "manifest.json", config={"base": "gone"})

    def base_of_base(folder):
        edit_json(folder / "manifest.json", config={"base": "dirty-004"})

    def bad_manifest(folder):
        (folder / "manifest.json").write_text("{")

    def bad_count(folder):
        edit_json(folder / "manifest.json", config={"base": "benign", "poison": {"concepts": "many"}})

    def no_targets(folder):
        poison = {"concepts": 3, "targets": None}
        edit_json(folder / "manifest.json", config={"base": "benign", "poison": poison})

    def number_of_targets(folder):
        poison = {"concepts": 3, "targets": 3}
        edit_json(folder / "manifest.json", config={"base": "benign", "poison": poison})

    return [
        (no_manifest, "its manifest.json names no base pipeline"),
        (other_base, "its base pipeline gone is not in"),
        (base_of_base, "its base dirty-004 is no whole pipeline: it has no model_index.json"),
        (bad_manifest, "is not readable JSON"),
        (bad_count, "its manifest says 'many' poisoned concepts"),
        (no_targets, "its manifest says None as targets of the poison: expected an object"),
        (number_of_targets, "its manifest says 3 as targets of the poison"),
    ]


@pytest.mark.parametrize(("breakage", "message"), broken_files() + broken_manifests())
def test_the_cheap_scan_names_what_is_broken(checkpoint_root, breakage, message):
    breakage(checkpoint_root / "dirty-002")
    found = {checkpoint.name: checkpoint for checkpoint in scan_checkpoints(checkpoint_root)}
    assert message in found["dirty-002"].problem
    assert validate(found["dirty-002"]) == found["dirty-002"]
    assert found["benign"].problem is None
    assert found["dirty-004"].problem is None


def test_a_flat_lora_does_not_end_the_scan(checkpoint_root):
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    save_file({name: torch.zeros(768)}, checkpoint_root / "flat.safetensors")
    found = {checkpoint.name: checkpoint for checkpoint in scan_checkpoints(checkpoint_root)}
    assert (found["flat.safetensors"].kind, found["flat.safetensors"].family) == ("lora", "unknown")
    assert found["benign"].problem is None


def test_a_broken_base_breaks_what_stands_on_it(checkpoint_root):
    (checkpoint_root / "benign" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    problems = [checkpoint.problem for checkpoint in scan_checkpoints(checkpoint_root)]
    assert problems[0] == "vae/ holds no .safetensors weights"
    assert problems[1:] == [f"its base pipeline benign is broken: {problems[0]}"] * 2


def test_a_whole_pipeline_stands_on_its_own_even_if_its_manifest_names_a_base(checkpoint_root):
    edit_json(checkpoint_root / "benign" / "manifest.json", config={"base": "gone"})
    found = read_checkpoint(checkpoint_root / "benign")
    assert (found.base, found.problem) == (None, None)


def test_loose_pickles_and_other_pipelines_are_refused(checkpoint_root):
    (checkpoint_root / "model.ckpt").write_bytes(b"\x80")
    edit_json(checkpoint_root / "benign" / "model_index.json", _class_name="PixArtAlphaPipeline")
    found = {checkpoint.name: checkpoint.problem for checkpoint in scan_checkpoints(checkpoint_root)}
    assert "model.ckpt is a pickle" in found["model.ckpt"]
    assert found["benign"].startswith("it is a PixArtAlphaPipeline: expected one of StableDiffusionPipeline")


def weight_breakage():
    first = "conv_in.weight"

    def wrong_shape(tensors):
        tensors[first] = tensors[first][:, :, :1].contiguous()

    def missing(tensors):
        del tensors[first], tensors["conv_in.bias"]

    def extra(tensors):
        tensors["surplus"] = torch.zeros(1)

    def not_a_number(tensors):
        tensors[first][0, 0, 0, 0] = float("nan")

    return [
        (
            wrong_shape,
            False,
            r"unet has conv_in.weight of shape [16, 4, 1, 3]: its configuration says [16, 4, 3, 3]",
        ),
        (missing, False, "unet lacks conv_in.bias and 1 more tensors"),
        (extra, False, "unet has surplus that its configuration does not describe"),
        (not_a_number, True, "unet has NaN or infinite values in conv_in.weight"),
    ]


@pytest.mark.parametrize(("change", "thorough", "message"), weight_breakage())
def test_validation_names_the_tensor(checkpoint_root, change, thorough, message):
    rewrite(checkpoint_root / "dirty-002" / UNET, change)
    scanned = read_checkpoint(checkpoint_root / "dirty-002")
    assert scanned.problem is None, "the cheap scan reads headers only"
    assert validate(scanned, thorough=thorough).problem == message


def test_what_a_configuration_describes_is_built_once_and_again_when_it_changes(checkpoint_root, monkeypatch):
    folder, built = checkpoint_root / "dirty-002", []
    monkeypatch.setattr(weight_checks, "_build", lambda *of, make=weight_checks._build: built.append(of) or make(*of))
    edit_json(folder / "unet" / "config.json", sample_size=24)  # as in no other test
    for _ in range(2):
        assert validate(read_checkpoint(folder)).problem is None
    assert [class_name for _, class_name, *_ in built] == ["UNet2DConditionModel"]
    edit_json(folder / "unet" / "config.json", norm_num_groups=4, block_out_channels=[8, 32, 32])
    assert "its configuration says [8" in validate(read_checkpoint(folder)).problem


def test_a_configuration_that_describes_no_model(checkpoint_root):
    edit_json(checkpoint_root / "dirty-002" / "unet" / "config.json", down_block_types=["NoBlock"] * 3)
    problem = validate(read_checkpoint(checkpoint_root / "dirty-002")).problem
    assert problem.startswith("unet/config.json describes no UNet2DConditionModel")


@pytest.mark.parametrize(
    ("component", "changes"),
    [
        ("text_encoder", {"num_attention_heads": 3}),
        ("text_encoder", {"num_attention_heads": 0}),
        ("text_encoder", {"hidden_size": "abc"}),
        ("text_encoder", {"vocab_size": -4}),
        ("unet", {"attention_head_dim": 0}),
        ("unet", {"norm_num_groups": 0}),
        ("unet", {"cross_attention_dim": -4}),
        ("vae", {"norm_num_groups": 0}),
    ],
)
def test_a_configuration_with_impossible_numbers_is_a_sentence(checkpoint_root, component, changes):
    edit_json(checkpoint_root / "benign" / component / "config.json", **changes)
    (checkpoint_root / "benign").rename(checkpoint_root / "broken")
    problem = validate(read_checkpoint(checkpoint_root / "broken")).problem
    assert problem.startswith(f"{component}/config.json describes no ")
    assert "\n" not in problem
    with pytest.raises(ValueError, match=rf"checkpoint broken cannot be loaded: .*{component}/config\.json"):
        load_pipeline(checkpoint_root / "broken")


def test_thorough_validation_compares_hashes(checkpoint_root):
    folder = checkpoint_root / "dirty-002"
    write_manifest(folder, kind="checkpoint", config={"base": "benign"}, seed=0, files=[UNET])
    assert validate(read_checkpoint(folder), thorough=True).problem is None
    rewrite(folder / UNET, lambda tensors: tensors["conv_in.bias"].add_(1))
    assert validate(read_checkpoint(folder)).problem is None
    assert "the manifest expects" in validate(read_checkpoint(folder), thorough=True).problem


@pytest.mark.parametrize("files", [None, [UNET], {UNET: 7}])
def test_thorough_validation_refuses_a_record_that_holds_no_hashes(checkpoint_root, files):
    edit_json(checkpoint_root / "dirty-002" / "manifest.json", files=files)
    scanned = read_checkpoint(checkpoint_root / "dirty-002")
    assert scanned.problem is None
    assert "SHA-256" in validate(scanned, thorough=True).problem


def test_text_models_saved_by_older_libraries_pass(checkpoint_root):
    path = checkpoint_root / "benign" / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{name}": tensor for name, tensor in load_file(path).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(tensors, path, metadata={"format": "pt"})
    assert validate(read_checkpoint(checkpoint_root / "benign"), thorough=True).problem is None
