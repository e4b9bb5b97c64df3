import json

import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import explorer.cli.checkpoints
import explorer.cli.generation  # noqa: F401 - registers the commands
from explorer.cli.application import application
from explorer.core.provenance import hash_file


def invoke(*arguments):
    result = CliRunner().invoke(application, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_checkpoints_lists_sound_and_broken_ones(checkpoint_root):
    (checkpoint_root / "dirty-004" / "unet" / "config.json").unlink()
    output = invoke("checkpoints", checkpoint_root)
    lines = output.splitlines()
    assert lines[0].startswith("benign")
    assert lines[0].endswith("ok")
    assert lines[2].endswith("broken: unet/config.json is missing")
    entries = json.loads(invoke("checkpoints", checkpoint_root, "--thorough", "--json"))["checkpoints"]
    assert [entry["poisoned_concept_count"] for entry in entries] == [0, 2, 4]
    assert entries[1]["poisoned_concepts"] == ["dog", "hat"]
    assert [(entry["kind"], entry["family"]) for entry in entries] == [("pipeline", "sd1"), *[("unet", "sd1")] * 2]
    assert entries[1]["hash"] == hash_file(
        checkpoint_root / "dirty-002" / "unet" / "diffusion_pytorch_model.safetensors"
    )


def test_set_base_writes_a_manifest_that_the_registry_reads(checkpoint_root):
    lora = checkpoint_root / "style.safetensors"
    save_file({f"unet.mid_block.to_q.lora_{part}.weight": torch.zeros(2, 2) for part in "AB"}, lora)
    entry = json.loads(invoke("set-base", lora, checkpoint_root / "benign", "--json"))
    assert (entry["kind"], entry["family"], entry["problem"]) == ("lora", "sd1", None)
    assert json.loads((checkpoint_root / "style.manifest.json").read_text())["config"] == {"base": "benign"}
    listed = json.loads(invoke("checkpoints", checkpoint_root, "--json"))["checkpoints"]
    assert "style.safetensors" in {entry["name"] for entry in listed if entry["problem"] is None}


def test_what_a_graft_leaves_behind_of_its_donor_is_listed(checkpoint_root):
    lora = checkpoint_root / "style.safetensors"
    shapes = {"unet.conv_in": ((1, 4, 3, 3), (16, 1, 1, 1)), "text_encoder.mlp.fc1": ((1, 32), (64, 1))}
    save_file({f"{name}.lora_{part}.weight": torch.ones(shape) for name, both in shapes.items()
               for part, shape in zip("AB", both, strict=True)}, lora)  # fmt: skip
    invoke("set-base", lora, checkpoint_root / "benign")
    (checkpoint_root / "graft").mkdir()
    graft = {"recipient": "../dirty-004", "donor": "../style.safetensors", "parts": [{"group": "all"}]}
    (checkpoint_root / "graft" / "graft.json").write_text(json.dumps(graft))
    told = "its donor style.safetensors also changes text_encoder, where a graft has what its recipient has"
    (line,) = (line for line in invoke("checkpoints", checkpoint_root).splitlines() if line.startswith("graft "))
    assert line.endswith(f"ok: {told}")
    entries = json.loads(invoke("checkpoints", checkpoint_root, "--json"))["checkpoints"]
    assert {entry["name"]: entry["caveat"] for entry in entries if entry["caveat"]} == {"graft": told}


def test_set_base_takes_a_folder_with_nothing_but_a_unet(checkpoint_root):
    (checkpoint_root / "dirty-004" / "manifest.json").unlink()
    entry = json.loads(invoke("set-base", checkpoint_root / "dirty-004", checkpoint_root / "benign", "--json"))
    assert (entry["kind"], entry["base"], entry["problem"]) == ("unet", str(checkpoint_root / "benign"), None)


def test_fetch_takes_no_paths(tmp_path):
    result = CliRunner().invoke(application, ["fetch", "../elsewhere", str(tmp_path)])
    assert isinstance(result.exception, ValueError)
    assert "expected owner/name" in str(result.exception)


def test_checkpoints_of_an_empty_folder(tmp_path):
    assert invoke("checkpoints", tmp_path).strip() == f"no checkpoints in {tmp_path}"


def test_what_is_known_of_a_checkpoints_poison_is_written_by_a_command(checkpoint_root, tmp_path):
    (checkpoint_root / "benign" / "manifest.json").unlink()
    entry = json.loads(invoke("checkpoints", checkpoint_root / "benign", "--json"))["checkpoints"][0]
    unknown = (None, False, None)
    assert (entry["poisoned_concept_count"], entry["poison_recorded"], entry["poisoned_concepts"]) == unknown
    (tmp_path / "nouns.txt").write_text("dog\nfire truck\ndog\n")
    for options, expected in (
        (("--none",), (0, True, [])),
        (("--count", 7, "--replace"), (7, True, None)),
        (("--concepts", tmp_path / "nouns.txt", "--replace"), (2, True, ["dog", "fire truck"])),
        (("--unknown", "--replace"), unknown),
        (("--unknown",), unknown),
    ):
        entry = json.loads(invoke("record-poison", checkpoint_root / "benign", *options, "--json"))
        found = (entry["poisoned_concept_count"], entry["poison_recorded"], entry["poisoned_concepts"])
        assert found == expected, options
    before = (checkpoint_root / "dirty-002" / "manifest.json").read_bytes()
    for options, message in (
        (("--none",), "the manifest of dirty-002 says dirty-label, C_P = 2 already: expected --replace"),
        (("--unknown",), "the manifest of dirty-002 says dirty-label, C_P = 2 already: expected --replace"),
        (("--none", "--count", 2), "expected one of --none, --concepts FILE, --count N and --unknown"),
        ((), "expected one of --none"),
    ):
        result = CliRunner().invoke(
            application, ["record-poison", str(checkpoint_root / "dirty-002"), *map(str, options)]
        )
        assert message in str(result.exception)
    assert (checkpoint_root / "dirty-002" / "manifest.json").read_bytes() == before
    invoke("record-poison", checkpoint_root / "dirty-002", "--none", "--replace")
    assert json.loads((checkpoint_root / "dirty-002" / "manifest.json").read_text())["config"]["base"] == "benign"
