"""A small study of real models: both directions, what it keeps, and that it goes on where it was cut off."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from explorer.checkpoints.registry import read_checkpoint
from explorer.cli.surgery import graft_lines
from explorer.core.provenance import check_files, read_manifest, write_json
from explorer.evaluation.drawings import Drawing, draw_missing, seed_folder
from explorer.evaluation.files import world_of
from explorer.evaluation.judge import ConceptJudge
from explorer.meter.shown import shown_on
from explorer.surgery.measured import Asked
from explorer.surgery.payload_formats import GRAFT_STUDY, OPERATION_FIELDS
from explorer.surgery.request import GraftStudyRequest
from explorer.surgery.study import study_grafts

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
    assert any(line.startswith("cross-attention ") for line in graft_lines(report))


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


def test_what_the_judge_does_not_know_is_refused_before_work(study, tmp_path):
    from explorer.pairs.concept_list import Concept, ConceptList

    drawn = ConceptList(concepts=(Concept(name="zebra", group="other", phrase="a zebra"),))
    with pytest.raises(ValueError, match="concept 'zebra' is none of the 8"):
        study(drawn=drawn)
    assert not (tmp_path / "study").exists()
