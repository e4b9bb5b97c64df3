import os
import shutil

import pytest
from safetensors.torch import load_file, save_file

from explorer.core.provenance import write_manifest
from explorer.ui.screens.checkpoints.screen import (
    check_every_weight,
    header_facts,
    origin_notice,
    overview,
    registry_table,
)
from explorer.ui.screens.compare.screen import chooser_updates
from explorer.ui.shell.context import AppContext, AppSettings

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def context(checkpoint_root, tmp_path):
    return AppContext(settings=AppSettings(checkpoints=checkpoint_root, precomputed=tmp_path / "none"))


def spoil(path, value=float("nan")):
    tensors = load_file(path)
    tensors["conv_in.bias"][0] = value
    save_file(tensors, path)


def test_checking_says_where_it_is_and_what_is_sound(context):
    *steps, told = check_every_weight(context)
    assert [step.split("Reading ")[1].split(",")[0] for step in steps] == ["benign", "dirty-002", "dirty-004"]
    assert "(2 of 3)" in steps[1]
    shares = [float(step.split('value="')[1].split('"')[0]) for step in steps]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0 < shares[1] < shares[2] < 1
    assert "3 checkpoints, and nothing is wrong." in told
    assert all(len(checkpoint.hash) == 64 for checkpoint in context.registry())


def test_what_the_check_finds_reaches_table_header_and_choosers_and_stays(context, checkpoint_root):
    spoil(checkpoint_root / "dirty-002" / UNET)
    context.refresh_registry()
    assert "dirty-002" in context.checkpoint_names(), "headers alone do not tell"
    *_, told = check_every_weight(context)
    assert 'role="alert"' in told
    assert "left out of the choosers: dirty-002." in told
    for again in (context.registry, context.refresh_registry):
        assert "unet has NaN or infinite values in conv_in.bias" in registry_table(again())
        assert header_facts(context)["checkpoints"] == "2 checkpoints, 1 broken"
        assert chooser_updates(context)[0]["choices"] == ["benign", "dirty-004"]
    with pytest.raises(ValueError, match="The checkpoint dirty-002 cannot be used: unet has NaN"):
        context.checkpoint("dirty-002")


def test_a_finding_ends_when_a_file_changes(context, checkpoint_root):
    spoil(checkpoint_root / "dirty-002" / UNET)
    list(check_every_weight(context))
    assert "dirty-002" not in context.checkpoint_names()
    spoil(checkpoint_root / "dirty-002" / UNET, 0.0)
    context.refresh_registry()
    assert "dirty-002" in context.checkpoint_names()


def test_results_of_other_models_are_said_to_be_so(context, checkpoint_root, tmp_path):
    assert origin_notice(context) == ""
    folder = context.settings.precomputed
    folder.mkdir(exist_ok=True)
    write_manifest(folder, kind="precomputed", config={"models": {"<gone>": "0" * 64}}, seed=0, files=[])
    assert "&lt;gone&gt;: not in" in origin_notice(context)
    assert overview(context)[1] == origin_notice(context)


def test_commands_are_advised_only_where_they_work(context, checkpoint_root):
    folder = context.settings.precomputed
    folder.mkdir(exist_ok=True)
    write_manifest(folder, kind="precomputed", config={"models": {"other": "0" * 64}}, seed=0, files=[])
    assert "explorer evaluate" not in origin_notice(context), "no extractor, and no control of a world"
    (checkpoint_root / "extractor").mkdir()
    context.refresh_registry()
    assert "explorer evaluate" not in origin_notice(context), "no control of a world"
    config = {"world": {"concept_count": 8}, "poison": {"kind": "none", "concepts": 0}}
    write_manifest(checkpoint_root / "benign", kind="checkpoint", config=config, seed=0)
    context.refresh_registry()
    advised = origin_notice(context)
    for command in ("evaluate", "precompute"):
        assert f"<code>python -m explorer {command} --checkpoints {checkpoint_root} --sets SETS" in advised


def test_a_second_check_reads_again_even_what_looks_unchanged(context, checkpoint_root):
    path = checkpoint_root / "dirty-002" / UNET
    spoil(path)
    list(check_every_weight(context))
    checked = path.stat()
    spoil(path, 0.0)
    os.utime(path, ns=(checked.st_atime_ns, checked.st_mtime_ns))
    context.refresh_registry()
    assert "dirty-002" not in context.checkpoint_names()
    *_, told = check_every_weight(context)
    assert "nothing is wrong" in told
    assert "dirty-002" in context.checkpoint_names()


def test_what_a_broken_base_lends_breaks_those_that_stand_on_it(context, checkpoint_root):
    autoencoder = checkpoint_root / "benign" / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(autoencoder)
    name = min(tensors)
    sound = tensors[name].clone()
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, autoencoder)
    list(check_every_weight(context))
    assert context.checkpoint_names() == []
    assert f"its base pipeline benign is broken: vae has NaN or infinite values in {name}" in registry_table(
        context.refresh_registry()
    )
    save_file({**tensors, name: sound}, autoencoder)
    context.refresh_registry()
    assert context.checkpoint_names() == ["benign", "dirty-002", "dirty-004"], "the base was repaired"


def test_a_base_is_loaded_whole_and_so_must_be_sound_whole(context, checkpoint_root):
    from explorer.checkpoints.pipelines import load_pipeline

    spoil(checkpoint_root / "benign" / UNET)
    with pytest.raises(ValueError, match="dirty-002, on its base benign, cannot be loaded: unet has NaN"):
        load_pipeline(checkpoint_root / "dirty-002")
    list(check_every_weight(context))
    assert context.checkpoint_names() == []


def test_a_base_named_while_its_weights_are_read_is_kept(context, checkpoint_root, monkeypatch):
    from explorer.checkpoints import registry as registry
    from explorer.ui.shell import context as app_context

    def meanwhile(checkpoint, **options):
        checked = registry.validate(checkpoint, **options)
        if checkpoint.name == "dirty-002":
            shutil.copytree(checkpoint_root / "benign", checkpoint_root / "other")
            registry.set_base(checkpoint.folder, checkpoint_root / "other")
        return checked

    monkeypatch.setattr(app_context, "validate", meanwhile)
    list(check_every_weight(context))
    assert context.checkpoint("dirty-002").base.name == "other"


def test_a_base_is_read_once_for_all_that_stand_on_it(context, monkeypatch):
    from explorer.checkpoints import weight_checks

    read = []
    check_finite = weight_checks.check_finite
    monkeypatch.setattr(weight_checks, "check_finite", lambda files: check_finite(read.append(f) or f for f in files))
    list(check_every_weight(context))
    assert len(read) == len(set(read)) > 3
