import os

import pytest
from safetensors.torch import load_file, save_file

from explorer.ui.compare_screen import chooser_updates
from explorer.ui.context import AppContext, AppSettings
from explorer.ui.registry_panel import check_every_weight, header_facts, registry_table

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
