import os
import shutil
from types import SimpleNamespace

import gradio as gr
import pytest
from safetensors.torch import load_file, save_file

from explorer.checkpoints import registry
from explorer.studies.results import COMPARISON, EVALUATION, SCORES
from explorer.studies.study import Arm
from explorer.ui.screens.checkpoints.base_chooser import set_base_notice
from explorer.ui.screens.checkpoints.registry_table import registry_table
from explorer.ui.screens.checkpoints.screen import _Events, check_every_weight, header_facts, origin_notice
from explorer.ui.screens.compare.screen import chooser_updates
from explorer.ui.shell.context import AppContext, AppSettings

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def opened(checkpoint_root, open_checkpoints):
    return open_checkpoints(checkpoint_root)


def spoil(path, value=float("nan")):
    tensors = load_file(path)
    tensors["conv_in.bias"][0] = value
    save_file(tensors, path)


def test_checking_says_where_it_is_and_what_is_sound(opened):
    *steps, told = check_every_weight(opened)
    assert [step.split("Reading ")[1].split(",")[0] for step in steps] == ["benign", "dirty-002", "dirty-004"]
    assert "(2 of 3)" in steps[1]
    shares = [float(step.split('value="')[1].split('"')[0]) for step in steps]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0 < shares[1] < shares[2] < 1
    assert "3 checkpoints, and nothing is wrong." in told
    assert all(len(checkpoint.hash) == 64 for checkpoint in opened.registry())


def test_what_the_check_finds_reaches_table_header_and_choosers_and_stays(opened, checkpoint_root):
    spoil(checkpoint_root / "dirty-002" / UNET)
    opened.refresh_registry()
    assert "dirty-002" in opened.checkpoint_names(), "headers alone do not tell"
    *_, told = check_every_weight(opened)
    assert 'role="alert"' in told
    assert "left out of the choosers: dirty-002." in told
    for again in (opened.registry, opened.refresh_registry):
        assert "unet has NaN or infinite values in conv_in.bias" in registry_table(again() and opened)
        assert header_facts(AppContext(settings=AppSettings()), opened)["checkpoints"] == "2 checkpoints, 1 broken"
        assert chooser_updates(opened)[0]["choices"] == ["benign", "dirty-004"]
    with pytest.raises(ValueError, match="The checkpoint dirty-002 cannot be used: unet has NaN"):
        opened.checkpoint("dirty-002")


def test_a_finding_ends_when_a_file_changes(opened, checkpoint_root):
    spoil(checkpoint_root / "dirty-002" / UNET)
    list(check_every_weight(opened))
    assert "dirty-002" not in opened.checkpoint_names()
    spoil(checkpoint_root / "dirty-002" / UNET, 0.0)
    opened.refresh_registry()
    assert "dirty-002" in opened.checkpoint_names()


def test_stale_results_are_told_with_what_differs_and_what_measures_again(
    checkpoint_root, tmp_path, make_study, open_study
):
    folder, facts = tmp_path / "mine", {"checkpoints": checkpoint_root, "concepts": ("dog",)}
    study = make_study(
        folder,
        **facts,
        results={EVALUATION: {"evaluation.json": '{"tau": 0.3, "concepts": []}'}, COMPARISON: {"made.json": "{}"}},
        inputs={"pairs of <gone>": "0"},
    )
    told = origin_notice(open_study(folder))
    assert "evaluation, comparison: measured before the study was changed." in told
    assert "<li>evaluation: made of &lt;gone&gt; as well, no arm of the study</li>" in told
    assert f"<code>python -m explorer study run {study.folder} {EVALUATION} {COMPARISON}</code>" in told
    assert SCORES not in told, "that was never measured"
    make_study(tmp_path / "new", **facts)
    assert origin_notice(open_study(tmp_path / "new")) == ""


def test_arms_without_a_checkpoint_are_listed_as_such(checkpoint_root, tmp_path, make_study, open_study):
    arms = (Arm(name="benign", checkpoint=checkpoint_root / "benign"), Arm(name="<b>pairs", pairs=tmp_path))
    make_study(tmp_path / "mine", arms=arms)
    opened = open_study(tmp_path / "mine")
    assert registry_table(opened).count("<tr>") == 3
    assert "&lt;b&gt;pairs" in registry_table(opened)
    assert "no checkpoint in study.toml" in registry_table(opened)
    assert header_facts(AppContext(settings=AppSettings()), opened)["checkpoints"] == "1 checkpoint, 1 arm without"


def test_weights_that_cannot_be_read_have_no_number_of_parameters(opened, checkpoint_root):
    (checkpoint_root / "dirty-002" / UNET).write_bytes(b"short")
    opened.refresh_registry()
    row = next(row for row in registry_table(opened).split("<tr>") if "dirty-002" in row)
    assert "<td>–</td><td>–</td>" in row
    assert " M</td>" not in row
    assert registry_table(opened).count(" M</td>") == 2


def test_a_study_is_read_again_and_what_is_broken_changes_nothing(checkpoint_root, tmp_path, make_study, open_study):
    make_study(tmp_path / "mine", checkpoints=checkpoint_root)
    opened = open_study(tmp_path / "mine")
    make_study(tmp_path / "mine", arms=(Arm(name="other", checkpoint=checkpoint_root / "benign"),))
    assert opened.checkpoint_names() == ["benign", "dirty-002", "dirty-004"]
    opened.refresh_registry()
    assert opened.checkpoint_names() == ["other"]
    (tmp_path / "mine" / "study.toml").write_text("name =")
    with pytest.raises(ValueError, match=r"study\.toml"):
        opened.refresh_registry()
    assert opened.checkpoint_names() == ["other"]
    assert "The study cannot be read again." in list(check_every_weight(opened))[-1]
    told, done = set_base_notice(opened, "other", "benign")
    assert not done
    assert "No base was set." in told
    assert "study.toml" in told


def test_a_second_check_reads_again_even_what_looks_unchanged(opened, checkpoint_root):
    path = checkpoint_root / "dirty-002" / UNET
    spoil(path)
    list(check_every_weight(opened))
    checked = path.stat()
    spoil(path, 0.0)
    os.utime(path, ns=(checked.st_atime_ns, checked.st_mtime_ns))
    opened.refresh_registry()
    assert "dirty-002" not in opened.checkpoint_names()
    *_, told = check_every_weight(opened)
    assert "nothing is wrong" in told
    assert "dirty-002" in opened.checkpoint_names()


def test_what_a_broken_base_lends_breaks_those_that_stand_on_it(opened, checkpoint_root):
    autoencoder = checkpoint_root / "benign" / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(autoencoder)
    name = min(tensors)
    sound = tensors[name].clone()
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, autoencoder)
    list(check_every_weight(opened))
    assert opened.checkpoint_names() == []
    opened.refresh_registry()
    assert f"its base pipeline benign is broken: vae has NaN or infinite values in {name}" in registry_table(opened)
    save_file({**tensors, name: sound}, autoencoder)
    opened.refresh_registry()
    assert opened.checkpoint_names() == ["benign", "dirty-002", "dirty-004"], "the base was repaired"


def test_a_base_is_loaded_whole_and_so_must_be_sound_whole(opened, checkpoint_root):
    from explorer.checkpoints.pipelines import load_pipeline

    spoil(checkpoint_root / "benign" / UNET)
    with pytest.raises(ValueError, match="dirty-002, on its base benign, cannot be loaded: unet has NaN"):
        load_pipeline(checkpoint_root / "dirty-002")
    list(check_every_weight(opened))
    assert opened.checkpoint_names() == []


def test_a_base_named_while_its_weights_are_read_is_kept(opened, checkpoint_root, monkeypatch):
    from explorer.checkpoints import registry as registry
    from explorer.ui.shell import open_study

    def meanwhile(checkpoint, **options):
        checked = registry.validate(checkpoint, **options)
        if checkpoint.name == "dirty-002":
            shutil.copytree(checkpoint_root / "benign", checkpoint_root / "other")
            registry.set_base(checkpoint.folder, checkpoint_root / "other")
        return checked

    monkeypatch.setattr(open_study, "validate", meanwhile)
    list(check_every_weight(opened))
    assert opened.checkpoint("dirty-002").base.name == "other"


def test_a_base_is_read_once_for_all_that_stand_on_it(opened, monkeypatch):
    read = []
    check_finite = registry.check_finite
    monkeypatch.setattr(registry, "check_finite", lambda files: check_finite(read.append(f) or f for f in files))
    list(check_every_weight(opened))
    assert len(read) == len(set(read)) > 3


def test_what_is_found_reaches_the_page_unless_it_shows_another_study_by_now(tmp_path, checkpoint_root, make_study):
    for name in ("first", "second"):
        make_study(tmp_path / name, checkpoints=checkpoint_root)
    context = AppContext(settings=AppSettings(studies=(tmp_path / "first", tmp_path / "second")))
    events, page = _Events(context=context, told=3, shown=5), SimpleNamespace(session_hash="page")
    events.show_study("", page)  # before the page's address names the first study by itself
    for address in ("", "?study=first"):
        assert events.look_again(page, address)[1]["slug"] == "first"
    events.show_study("?study=second", page)
    assert set(map(str, events.look_again(page, "?study=first"))) == {str(gr.skip())}
    assert events.look_again(page, "?study=second")[1]["slug"] == "second"
