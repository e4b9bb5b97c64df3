"""A small study of real models: both directions, what it keeps, and that it goes on where it was cut off."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, set_base
from explorer.checkpoints.weights_hash import weights_hash
from explorer.cli.surgery import graft_lines
from explorer.core.provenance import check_files, hash_file, read_manifest, write_json
from explorer.evaluation.drawings import Drawing, draw_missing, seed_folder
from explorer.evaluation.files import world_of
from explorer.evaluation.judge import ConceptJudge
from explorer.meter.shown import shown_on
from explorer.surgery.measured import Asked
from explorer.surgery.payload_formats import GRAFT_STUDY, OPERATION_FIELDS
from explorer.surgery.request import GraftStudyRequest
from explorer.surgery.study import study_grafts
from tests.low_rank import kohya_layout, low_rank_pairs
from tests.original_layout import original_layout, save

REQUEST = GraftStudyRequest(seeds=2, steps=2, draws=1)


@pytest.fixture
def models(micro_world, tmp_path):
    """The world's models, its ``dirty-004`` with other weights: the steps that made it changed none."""
    root = shutil.copytree(micro_world.output, tmp_path / "models")
    path = root / "dirty-004" / "unet" / "diffusion_pytorch_model.safetensors"
    generator = torch.Generator().manual_seed(0)
    save_file({name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
               for name, tensor in load_file(path).items()}, path)  # fmt: skip
    manifest = json.loads((root / "dirty-004" / "manifest.json").read_text())
    write_json(root / "dirty-004" / "manifest.json", manifest | {"files": {}})
    return root


@pytest.fixture
def study(models, tmp_path):
    """``study(**options)``: the report of ``dirty-004`` and ``benign`` in one folder, and what it told."""
    recipient, donor = (read_checkpoint(models / name) for name in ("dirty-004", "benign"))
    return _study_of(recipient, donor, models, tmp_path)


def _study_of(recipient, donor, models, tmp_path, on=None):
    concepts = world_of(donor).concept_list()
    judge = ConceptJudge.load(models / "extractor", concepts)
    shown = shown_on(on, [recipient, donor], concepts, REQUEST.meter)

    def run(request=REQUEST, drawn=concepts, **options):
        told = []
        asked = Asked(concepts=drawn, judge=judge, shown=shown, request=request)
        report = study_grafts(
            recipient, donor, asked, tmp_path / "study",
            on_progress=lambda progress: told.append(progress.message), **options,
        )  # fmt: skip
        return report, told

    return run


def _report_of(pair, models, output, request, on=None, **options):
    """The report of any two models, judged by the world's extractor on its concepts."""
    concepts = world_of(read_checkpoint(models / "benign")).concept_list()
    shown = None if request.meter is None else shown_on(on, pair, concepts, request.meter)
    judge = ConceptJudge.load(models / "extractor", concepts)
    asked = Asked(concepts=concepts, judge=judge, shown=shown, request=request)
    return study_grafts(*pair, asked, output, **options)


def test_both_ways_are_measured_once_and_kept(study, models, tmp_path):
    report, told = study(only=["cross-attention"])
    assert "6 grafts, 8 concepts, 2 seeds: 96 pictures of 2 steps" in told[0]
    folder = tmp_path / "study"
    assert GRAFT_STUDY.checked(json.loads((folder / GRAFT_STUDY.name).read_text())) == report
    check_files(folder, read_manifest(folder, kind="graft-study"))
    assert [(way["recipient"], way["donor"]) for way in report["directions"]] == [
        ("dirty-004", "benign"), ("benign", "dirty-004")
    ]  # fmt: skip
    for way in report["directions"]:
        assert [each["name"] for each in way["operations"]] == ["none", "cross-attention", "all"]
        for each in way["operations"]:
            assert set(OPERATION_FIELDS) <= each.keys()
            assert len(each["right"]) == 8
            assert each["targets"]["of"] == 2 * 4
        assert way["operations"][-1]["groups"]["all"]["of_all"] in (None, 1.0)
        assert way["operations"][-1]["meter"]["all"]["sensitivity"]["of_all"]["value"] == 1.0
    # Everything moved is the donor, picture by picture.
    donor = read_checkpoint(models / "benign")
    concepts = world_of(donor).concept_list()
    whole = seed_folder(folder / "dirty-004-from-benign" / "drawings", "all", 1)
    own = draw_missing(donor, concepts, REQUEST.drawing, tmp_path / "own")[1]
    assert np.array_equal(Drawing.load(whole).images, Drawing.load(own).images)
    again, told = study(only=["cross-attention"])
    assert again == report
    assert not [message for message in told if "is drawn" in message]
    lines = graft_lines(report)
    assert any(line.startswith("cross-attention ") for line in lines)
    assert lines[0] == f"pictures judged by {report['judge']['name']} ({report['judge']['identity'][:12]}…)"


def test_what_was_heard_on_other_pictures_of_a_folder_of_one_name_is_measured_again(models, tmp_path):
    recipient, donor = (read_checkpoint(models / name) for name in ("dirty-004", "benign"))
    heard = []
    for level in (20, 220):
        folder = tmp_path / str(level) / "pictures"
        folder.mkdir(parents=True)
        for name in world_of(donor).concept_list().names:
            Image.new("RGB", (64, 64), (level, 90, 40)).save(folder / f"{name}.png")
        study = _study_of(recipient, donor, models, tmp_path, on=str(folder))
        study(replace(REQUEST, both_ways=False), only=["cross-attention"])
        (kept,) = (tmp_path / "study").glob("*/meter/cross-attention.json")
        heard.append(json.loads(kept.read_text()))
    assert heard[0]["asked"] != heard[1]["asked"]
    assert heard[0]["sensitivity"] != heard[1]["sensitivity"]


def test_two_models_in_folders_of_one_name_are_two_directions(models, tmp_path):
    folders = [shutil.copytree(models / name, tmp_path / "runs" / name / "model") for name in ("dirty-004", "benign")]
    for folder in folders:
        manifest = json.loads((folder / "manifest.json").read_text())
        base = manifest["config"].get("base")
        manifest["config"] |= {} if base is None else {"base": str((models / base).resolve())}
        write_json(folder / "manifest.json", manifest)
    request = replace(REQUEST, seeds=1)
    report, _ = _study_of(*map(read_checkpoint, folders), models, tmp_path)(request, only=["cross-attention"])
    names = [(way["recipient"], way["donor"]) for way in report["directions"]]
    told = ["dirty-004/model", "benign/model"]
    assert names == [tuple(told), tuple(told[::-1])]
    for way, folder in zip(report["directions"], folders, strict=True):
        place = tmp_path / "study" / f"{way['recipient']}-from-{way['donor']}".replace("/", "-") / "grafts" / "none"
        definition = json.loads((place / "graft.json").read_text())
        assert (place / definition["recipient"]).resolve() == folder


def test_attention_is_that_of_the_drawings_maps(study, models, tmp_path):
    request = replace(REQUEST, attention=True, both_ways=False)
    report, _ = study(request, only=["cross-attention"])
    entries = {each["name"]: each["attention"]["all"] for each in report["directions"][0]["operations"]}
    assert entries["all"]["late_word_mass"]["of_all"]["value"] == 1.0
    folder = tmp_path / "study" / "dirty-004-from-benign" / "drawings"
    for name, found in entries.items():
        maps = [Drawing.load(seed_folder(folder, name, seed)).late_maps.double() for seed in range(2)]
        assert found["late_word_mass"]["mean"]["value"] == pytest.approx(torch.stack(maps).mean().item(), rel=1e-5)
        assert Drawing.load(seed_folder(folder, name, 0)).pair_maps is None
    masses = {name: found["late_word_mass"]["mean"]["value"] for name, found in entries.items()}
    assert masses["none"] != masses["cross-attention"] != masses["all"]
    written = read_manifest(seed_folder(folder, "all", 0), kind="drawing")
    assert written["left_out"]["pair_maps"] == "prompts of two concepts were not asked for"
    plain, _ = study(replace(REQUEST, both_ways=False), only=["cross-attention"])
    assert [each["attention"] for each in plain["directions"][0]["operations"]] == [None] * 3


def test_the_manifest_says_which_models_and_which_lists_of_concepts(models, tmp_path):
    for training in ("one", "two"):  # two trainings under one name
        folder = shutil.copytree(models / "dirty-004", tmp_path / training / "dirty-004")
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["config"]["base"] = str(models / "benign")
        write_json(folder / "manifest.json", manifest)
    path = tmp_path / "two" / "dirty-004" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: 1.01 * tensor for name, tensor in load_file(path).items()}, path)
    donor, listed = read_checkpoint(models / "benign"), tmp_path / "concepts.csv"
    world_of(donor).concept_list().write(listed)
    found = []
    for training in ("one", "two"):
        recipient = read_checkpoint(tmp_path / training / "dirty-004")
        request, output = replace(REQUEST, seeds=1, draws=0, both_ways=False), tmp_path / training / "study"
        _report_of((recipient, donor), models, output, request, only=["feed-forward"], lists={"concepts": listed})
        found.append(read_manifest(output, kind="graft-study")["config"])
        own = {"name": "dirty-004", "path": str(recipient.folder), "weights": weights_hash(recipient)}
        assert found[-1]["recipient"] == own | {"weights of the base": weights_hash(donor)}
        assert found[-1]["lists"] == {"concepts": {"path": str(listed), "sha256": hash_file(listed)}}
        assert (found[-1]["seeds"], found[-1]["template"]) == (1, "a photo of {phrase}")
    one, two = found
    assert one["donor"] == two["donor"]
    assert one["recipient"]["weights"] != two["recipient"]["weights"]


def test_single_files_on_a_base_without_weights_are_studied(models, make_pipeline, tmp_path):
    root = tmp_path / "single"
    for seed, name in enumerate(("one", "two")):
        pipeline = make_pipeline(seed, only_cross_attention=False)
        pipeline.save_pretrained(root / "base")
        save(original_layout(pipeline, "sd1"), root / f"{name}.safetensors")
        set_base(root / f"{name}.safetensors", root / "base")
    for path in (root / "base").rglob("*.safetensors"):
        path.unlink()
    # As a hub cache has them: the files lie elsewhere, under the names of their hashes.
    for name in ("one", "two"):
        (root / f"{name}.safetensors").rename(tmp_path / name)
        (root / f"{name}.safetensors").symlink_to(tmp_path / name)
    request = replace(REQUEST, seeds=1, draws=0, both_ways=False, size=32)
    pair = [read_checkpoint(root / f"{name}.safetensors") for name in ("one", "two")]
    report = _report_of(pair, models, tmp_path / "study", request, only=["cross-attention"])
    assert [each["name"] for each in report["directions"][0]["operations"]] == ["none", "cross-attention", "all"]
    config = read_manifest(tmp_path / "study", kind="graft-study")["config"]
    assert config["donor"]["weights"] == hash_file(root / "two.safetensors")
    assert config["donor"]["weights of the base"] is None


def test_a_joint_transformer_is_studied(models, make_sd3_pipeline, tmp_path):
    for seed, name in enumerate(("one", "two")):
        make_sd3_pipeline(seed).save_pretrained(tmp_path / "sd3" / name)
    request = replace(REQUEST, seeds=1, steps=1, both_ways=False)
    only = ["text-keys-values", "all-as-far-as-text-keys-values"]
    pair = [read_checkpoint(tmp_path / "sd3" / name) for name in ("one", "two")]
    report = _report_of(pair, models, tmp_path / "study", request, on="noise", only=only)
    entries = {each["name"]: each for each in report["directions"][0]["operations"]}
    assert set(entries) == {"none", "all", *only}
    assert entries["all-as-far-as-text-keys-values"]["distance"] == pytest.approx(entries[only[0]]["distance"])
    assert entries["all"]["meter"]["all"]["sensitivity"]["of_all"]["value"] == 1.0
    drawn = Drawing.load(seed_folder(tmp_path / "study" / "one-from-two" / "drawings", "all", 0))
    concepts = world_of(read_checkpoint(models / "benign")).concept_list()
    own = draw_missing(pair[1], concepts, request.drawing, tmp_path / "own")[0]
    assert np.array_equal(drawn.images, Drawing.load(own).images)


def test_what_the_judge_does_not_know_is_refused_before_work(study, tmp_path):
    from explorer.pairs.concept_list import Concept, ConceptList

    drawn = ConceptList(concepts=(Concept(name="zebra", group="other", phrase="a zebra"),))
    with pytest.raises(ValueError, match="concept 'zebra' is none of the 8"):
        study(drawn=drawn)
    assert not (tmp_path / "study").exists()


def test_a_lora_over_the_recipient_is_studied_and_told_apart_by_its_strength(models, tmp_path):
    base, folder, found = read_checkpoint(models / "benign"), models / "style", []
    folder.mkdir()
    file = folder / "pytorch_lora_weights.safetensors"
    save_file(kohya_layout(low_rank_pairs(load_pipeline(base).unet, ("to_k", "to_v"))), file)
    request = replace(REQUEST, seeds=1, draws=0)
    for scale, asked in ((1.0, request), (0.5, replace(request, both_ways=False))):
        write_json(folder / "manifest.json", {"kind": "checkpoint", "config": {"base": "benign", "scale": scale}})
        lora, output = read_checkpoint(folder), tmp_path / f"study-{scale}"
        report = _report_of((base, lora), models, output, asked, only=["cross-attention", "feed-forward"])
        to_lora, *to_base = report["directions"]
        distances = {each["name"]: each["distance"] for each in to_lora["operations"]}
        assert (distances["feed-forward"], distances["cross-attention"] < distances["all"]) == (0, True)
        assert [each["distance"] for each in to_base] == [pytest.approx(to_lora["distance"])] * asked.both_ways
        found.append(read_manifest(output, kind="graft-study")["config"]["donor"])
    drawn = draw_missing(lora, world_of(base).concept_list(), request.drawing, tmp_path / "own")[0]
    whole = seed_folder(output / "benign-from-style" / "drawings", "all", 0)
    assert np.array_equal(Drawing.load(whole).images, Drawing.load(drawn).images)
    assert [each["weights of the base"] for each in found] == [weights_hash(base)] * 2
    assert found[0]["weights"] == hash_file(file) != found[1]["weights"]
    assert found[1]["settings"] == {"scale": 0.5}
    assert [each["changes"] for each in found] == [["unet"]] * 2
