"""An arm's pairs give the same table, features and AD whatever they are kept as, and say what they do not know."""

import dataclasses
import io
import json
import os
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from explorer.alignment.description import describe_measurement
from explorer.alignment.pair_sets import measure
from explorer.core.poison_record import NOT_RECORDED
from explorer.core.provenance import ROOT
from explorer.embeddings.store import partition_paths
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.pairs.pair_import import import_pairs, square_thumbnail
from explorer.pairs.pair_set import COLUMNS
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.sources.base import Reading
from explorer.pairs.sources.detection import open_source
from explorer.studies.arm_opening import open_arm_pairs
from explorer.studies.arm_pairs import measure_arm
from explorer.studies.inputs import StudyInputs
from explorer.studies.kept_pictures import FEATURES_FOLDER, NotEmbeddedError, open_kept_pictures
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Arm, Study

SHARED = Path(os.environ.get("IMPLOSION_TEST_DATA", ROOT.parent / "shared" / "data")) / "cifar10"
CONCEPTS, SIDE, WIDTH = ("dog", "fire truck", "cat"), 16, 8
CAPTIONS = ["a dog by a fire truck", "Cat", "two dogs", "a cat and a dog"] * 4
CAPTIONS[5] = " "  # set aside; so is number 6, which is no picture
KEPT = [number for number in range(16) if number not in (5, 6)]
FIELDS = PoisonFields(flag="poison", concept="p", target="t")


class Towers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image = torch.nn.Linear(3 * SIDE * SIDE, WIDTH)
        self.text = torch.nn.Embedding(256, WIDTH)

    def encode_image(self, pixels):
        return self.image(pixels.flatten(1))

    def encode_text(self, tokens):
        return self.text(tokens).mean(dim=1)


def as_input(images):
    resized = [np.array(Image.fromarray(image).resize((SIDE, SIDE))) for image in images]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def extractor():
    return UniversalExtractor(
        name="towers", clip=Towers().eval(), feature_range=(-0.5, 0.5), identity="1" * 64, preprocess=as_input,
        tokenize=lambda captions: torch.tensor([list(caption.ljust(24).encode()) for caption in captions]),
    )  # fmt: skip


def pixels(number):
    return np.random.default_rng(number).integers(0, 255, (24, 24, 3), np.uint8)


def encoded(number):
    stream = io.BytesIO()
    Image.fromarray(pixels(number)).save(stream, "PNG")
    return stream.getvalue() if number != 6 else b"no picture"


def said(number):
    """Every third pair is poison, of the others every second is known to be none."""
    if number % 3:
        return {"poison": None if number % 2 else False}
    return {"poison": True, "p": "cat", "t": "dog"}


def write_source(kind, folder):
    folder.mkdir()
    if kind == "parquet":
        rows = [{"image": encoded(number), "caption": caption, "uid": f"{number:03d}", "poison": None, "p": None,
                 "t": None, **said(number)} for number, caption in enumerate(CAPTIONS)]  # fmt: skip
        pandas.DataFrame(rows).to_parquet(folder / "a.parquet")
        return folder / "a.parquet"
    files = {}
    for number, caption in enumerate(CAPTIONS):
        fields = {"uid": f"{number:03d}", "caption": caption, **said(number)}
        files |= {f"{number:03d}.png": encoded(number), f"{number:03d}.json": json.dumps(fields).encode()}
    if kind == "imagefolder":
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder
    with tarfile.open(folder / "a.tar", "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return folder / "*.tar"


@pytest.fixture
def opened(extractor, tmp_path):
    """``opened(path, poison=None)``: the pairs of an arm."""

    def open_them(path, poison=None, extractor=extractor, name="arm", reading=None):
        arm = Arm(name=name, pairs=path, reading=reading or Reading(), poison_fields=poison or PoisonFields())
        return open_arm_pairs(arm, extractor, CONCEPTS, tmp_path / FEATURES_FOLDER)

    return open_them


@pytest.fixture
def pair_set(tmp_path):
    source = open_source(str(write_source("webdataset", tmp_path / "imported")))
    return import_pairs(source, tmp_path / "set", size=24, concepts=CONCEPTS, poison=FIELDS)[0]


@pytest.mark.parametrize("kind", ["webdataset", "parquet", "imagefolder"])
def test_a_source_gives_what_its_import_gives(kind, opened, extractor, tmp_path):
    path = write_source(kind, tmp_path / "source")
    pairs = opened(path, FIELDS)
    import_pairs(open_source(str(path)), tmp_path / "set", size=24, concepts=CONCEPTS, poison=FIELDS)
    imported = opened(tmp_path / "set")
    assert (pairs.kind, imported.kind) == (kind, "pair-set")
    shown = pairs.table.reset_index(drop=True)
    pandas.testing.assert_frame_equal(shown[list(COLUMNS)], imported.table[list(COLUMNS)], check_dtype=False)
    assert (pairs.table["concepts"][0], pairs.table["concepts"][2]) == (["dog", "fire truck"], [])
    assert pairs.counts == {"records": 16, "pairs": 14, "quarantined": {"empty caption": 1, "undecodable image": 1}}
    assert pairs.told == "14 embedded pairs; quarantined: 1 empty caption, 1 undecodable image"
    assert pairs.flags.as_list() == [said(number)["poison"] for number in KEPT]
    for ours, theirs in zip(pairs.features(), imported.features(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    rows = np.array([13, 0, 4, 13])
    for each in (pairs, imported):
        assert (each.read_images(rows, 24) == np.stack([pixels(KEPT[row]) for row in rows])).all()
        assert (each.thumbnails(rows, 48)[1] == square_thumbnail(pixels(0), 48)).all()
    ours, theirs = (measure_arm(each, extractor).report() for each in (pairs, imported))
    assert ours["ad"] == pytest.approx(theirs["ad"], abs=1e-6)
    assert ours["split"] == "train"
    assert pairs.training_rows.tolist() == list(range(len(pairs))), "no pair is said to be of another split"
    imported.table = imported.table.assign(split=["test", *["train"] * (len(imported) - 2), "test"])
    assert imported.training_rows.tolist() == list(range(1, len(imported) - 1))


def test_an_arms_pair_set_has_the_ad_and_description_that_it_has_alone(opened, pair_set, extractor):
    pairs = opened(pair_set.folder)
    measured, alone = measure_arm(pairs, extractor), measure(pair_set, extractor)
    assert measured.report() == alone.report()
    assert describe_measurement("a", pairs, measured) == describe_measurement("a", pair_set, alone)
    assert pairs.poison == pair_set.poison


def test_a_source_is_embedded_once_and_calibrated_later(opened, extractor, tmp_path):
    path = write_source("webdataset", tmp_path / "source")
    uncalibrated = dataclasses.replace(extractor, feature_range=None)
    pairs = opened(path, extractor=uncalibrated)
    with pytest.raises(ValueError, match="the extractor towers has no feature range"):
        measure_arm(pairs, uncalibrated)
    again = opened(path, extractor=dataclasses.replace(extractor, clip=None))
    assert again.data_hash == pairs.data_hash
    measured = measure_arm(again, extractor)
    entry = describe_measurement("arm", again, measured)
    assert (entry["poisoned_pairs"], entry["poison_recorded"], entry["poisoned_concept_count"]) == (None, False, None)
    assert (entry["data_hash"], again.poison) == (pairs.data_hash, NOT_RECORDED)


def test_a_source_that_changed_gives_no_other_pictures(opened, tmp_path):
    path = write_source("imagefolder", tmp_path / "source")
    pairs = opened(path)
    with pytest.raises(ValueError, match="size is None"):
        pairs.read_images(np.array([0]))
    (path / "000.png").write_bytes(encoded(1))
    with pytest.raises(ValueError, match="changed since it was embedded"):
        pairs.read_images(np.array([0]), 24)
    with pytest.raises(ValueError, match=r"features/arm are not of what .* \(source fingerprint differs\)"):
        opened(path)
    (tmp_path / FEATURES_FOLDER / "arm").rename(tmp_path / "before")
    assert len(opened(path)) == len(pairs)


def test_a_picture_that_is_not_readable_any_more_is_no_noise(opened, tmp_path):
    path = write_source("imagefolder", tmp_path / "source")
    pairs, picture = opened(path), path / "004.png"
    before = picture.stat()
    picture.write_bytes(b"x" * before.st_size)  # of the same size and date: the source looks as it was
    os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns))
    at = KEPT.index(4)
    assert (pairs.read_images(np.array([0]), 24)[0] == pixels(0)).all()
    with pytest.raises(ValueError, match=r"no readable picture of pair '.*', '.*', any more \(1 such\): expected"):
        pairs.read_images(np.array([0, at]), 24)


def test_pairs_at_an_address_are_those_of_a_path(opened, tmp_path):
    path = write_source("webdataset", tmp_path / "source")
    memory = fsspec.filesystem("memory")
    memory.put(str(path.parent), f"/{tmp_path.name}", recursive=True)
    try:
        far = opened(f"memory://{tmp_path.name}/*.tar", FIELDS, name="far")
        near = opened(path, FIELDS, name="near")
        pandas.testing.assert_frame_equal(far.table, near.table)
        assert all(torch.equal(*each) for each in zip(far.features(), near.features(), strict=True))
        assert (far.read_images(np.array([2]), 24) == near.read_images(np.array([2]), 24)).all()
    finally:
        memory.rm(f"/{tmp_path.name}", recursive=True)


def test_a_store_at_an_address_is_the_store(opened, tmp_path):
    opened(write_source("webdataset", tmp_path / "source"), FIELDS)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / FEATURES_FOLDER / "arm"), f"/{tmp_path.name}", recursive=True)
    try:
        far = opened(f"memory://{tmp_path.name}", name="far")
        near = opened(tmp_path / FEATURES_FOLDER / "arm", name="near")
        assert (far.kind, far.data_hash, far.told) == ("store", near.data_hash, near.told)
        pandas.testing.assert_frame_equal(far.table, near.table)
        assert (far.thumbnails(np.array([3, 0, 3])) == near.thumbnails(np.array([3, 0, 3]))).all()
    finally:
        memory.rm(f"/{tmp_path.name}", recursive=True)


def test_how_a_source_is_read_is_refused_where_it_has_no_effect(opened, pair_set, tmp_path):
    with pytest.raises(ValueError, match="arm has reading and poison_fields, and its pairs are of kind pair-set"):
        opened(pair_set.folder, FIELDS, reading=Reading(split="train"))
    opened(write_source("webdataset", tmp_path / "source"))
    with pytest.raises(ValueError, match="again has reading, and its pairs are of kind embedding-store"):
        opened(tmp_path / FEATURES_FOLDER / "arm", name="again", reading=Reading(kind="webdataset"))


def test_a_store_of_ours_is_read_as_it_lies(opened, extractor, tmp_path):
    """With the poison fields and thumbnails that it was embedded with."""
    source = opened(write_source("webdataset", tmp_path / "source"), FIELDS)
    store = opened(tmp_path / FEATURES_FOLDER / "arm", name="store")
    assert (store.kind, store.extractor, len(store)) == ("store", "towers", 14)
    assert store.flags.as_list() == source.flags.as_list()
    assert all(torch.equal(*each) for each in zip(store.features(), source.features(), strict=True))
    assert (store.thumbnails(np.array([3])) == source.thumbnails(np.array([3]))).all()
    assert store.table["split"].isna().all(), "its source names no split"
    assert measure_arm(store, extractor).report()["split"] == "all"
    with pytest.raises(ValueError, match="holds embeddings: expected the source itself"):
        store.read_images(np.array([0]), 24)
    with pytest.raises(
        ValueError, match=r"embedded with towers \(1{12}…\), the study's extractor is towers \(2{12}…\)"
    ):
        opened(tmp_path / FEATURES_FOLDER / "arm", extractor=dataclasses.replace(extractor, identity="2" * 64))


def write_foreign(folder, width=WIDTH, **columns):
    table = {"caption": ["a dog", None, "cat"], **columns}
    for part, path in partition_paths(folder, 0).items():
        path.parent.mkdir(parents=True)
        if part == "metadata":
            pandas.DataFrame(table).to_parquet(path)
        elif part != "thumbnails":
            np.save(path, np.random.default_rng(0).normal(size=(3, width)).astype(np.float16))
    (folder / "thumbnails").rmdir()
    return folder


def test_how_many_pairs_an_arm_has_is_known_of_any_store_that_can_be_read(tmp_path):
    places = [write_foreign(tmp_path / "laion"), write_source("webdataset", tmp_path / "shards")]
    arms = tuple(Arm(name=place.parent.name + place.name[0], pairs=place) for place in places)
    inputs = StudyInputs(Study(folder=tmp_path, name="two", extractor=ExtractorSpec(), arms=arms))
    assert [inputs.pair_count(arm) for arm in arms] == [3, None]
    partition_paths(places[0], 0)["text"].unlink()
    assert inputs.pair_count(arms[0]) is None


def test_a_store_of_somebody_elses_says_what_is_not_known(opened, tmp_path):
    pairs = opened(write_foreign(tmp_path / "laion", tainted=[1, None, 0]))
    assert pairs.extractor == pairs.pictures == "not recorded"
    assert pairs.told.split("; ") == [
        "3 embedded pairs", "which extractor made them is not recorded, and taken to be the study's",
        "they have no uids, and are called by their rows", "1 have no caption, and no concepts therefore",
        "no pictures are kept of them",
    ]  # fmt: skip
    assert pairs.table["uid"].tolist() == ["0", "1", "2"]
    assert pairs.table["concepts"].tolist() == [["dog"], [], ["cat"]]
    assert pairs.flags.unrecorded.all()
    assert pairs.counts == {"pairs": 3, "without_caption": 1}
    assert opened(tmp_path / "laion", PoisonFields(flag="tainted")).flags.as_list() == [True, None, False]
    with pytest.raises(ValueError, match="laion keeps no pictures: expected thumbnails"):
        pairs.thumbnails(np.array([0]))


@pytest.mark.parametrize("kind", ["webdataset", "set", "store"])
def test_pictures_are_read_from_where_they_are_kept(kind, opened, pair_set, tmp_path):
    """Without an extractor, and named by the same hash as what was measured of the pairs."""
    path, study = pair_set.folder, tmp_path
    if kind != "set":
        path = write_source("webdataset", tmp_path / "source")
        with pytest.raises(NotEmbeddedError, match="the pairs of arm have not been embedded yet"):
            open_kept_pictures(Arm(name="arm", pairs=path), study)
        opened(path)
    if kind == "store":
        path, study = study / FEATURES_FOLDER / "arm", tmp_path / "none"
    pairs, kept = opened(path), open_kept_pictures(Arm(name="arm", pairs=path), study)
    assert kept.are_known_as(pairs.data_hash)
    assert not kept.are_known_as("others")
    assert (kept.read([13, 0]) == pairs.thumbnails(np.array([13, 0]))).all()
    with pytest.raises(ValueError, match=r"row 14 is no pair's: expected 0\.\.13"):
        kept.read([14])


def test_pictures_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pairs at"):
        open_kept_pictures(Arm(name="arm", pairs=tmp_path / "gone"), tmp_path)
    with pytest.raises(ValueError, match="laion keeps no pictures"):
        open_kept_pictures(Arm(name="arm", pairs=write_foreign(tmp_path / "laion")), tmp_path)


@pytest.mark.parametrize(
    ("columns", "fields", "problem"),
    [
        ({"uid": ["a", "b", "a"]}, None, "uid 'a' appears more than once"),
        ({"tainted": ["yes", "perhaps", "no"]}, "tainted", "pair '1': poison field 'tainted' holds 'perhaps'"),
        ({}, "tainted", "no record has a field 'tainted'"),
        ({"width": 5}, None, "holds embeddings of 5 numbers, those of the study's extractor towers have 8"),
    ],
)
def test_a_store_that_cannot_be_is_refused(opened, tmp_path, columns, fields, problem):
    folder = write_foreign(tmp_path / "laion", **columns)
    with pytest.raises(ValueError, match=problem):
        opened(folder, fields and PoisonFields(flag=fields))


def test_an_arm_without_pairs_is_named(opened):
    with pytest.raises(ValueError, match="arm control has no pairs: expected some in study"):
        opened(None, name="control")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED} (IMPLOSION_TEST_DATA)")
def test_real_photographs_are_measured(opened, extractor):
    pairs = opened(SHARED / "webdataset-sample-00000.tar")
    report = measure_arm(pairs, extractor).report()
    assert len(pairs) == pairs.counts["records"] > 100
    assert 0 <= report["ad"] <= 2
    source = open_source(str(SHARED / "webdataset-sample-00000.tar"))
    first = np.array(Image.open(io.BytesIO(next(source.records()).image)).convert("RGB"))
    assert (pairs.read_images(np.array([0]), 32)[0] == first).all()
