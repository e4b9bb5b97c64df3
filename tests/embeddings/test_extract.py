"""Extraction equals encoding pair by pair, whatever is broken, and survives kill -9 bit by bit.

Run as a program, this file extracts the shards of a folder and kills itself on the way.
"""

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.core.folder_lock import LOCK_NAME, locked
from explorer.core.provenance import ROOT, ManifestError, check_files
from explorer.embeddings.extract import ExtractionSettings, extract_embeddings
from explorer.embeddings.partitions import pending_path
from explorer.embeddings.processes import Processes
from explorer.embeddings.store import EmbeddingStore, partition_paths, receipt_path
from explorer.pairs.pair_import import square_thumbnail
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.quarantine import Reason, read_quarantine
from explorer.pairs.sources.webdataset import WebdatasetSource
from tests.embeddings.small_extractor import (
    SETTINGS,
    WIDTH,
    open_shards,
    picture,
    small_extractor,
    write_shards,
)


def files_of(folder):
    """Every file of a store but the manifest, which is dated."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}


@pytest.fixture
def source(tmp_path):
    return write_shards(tmp_path / "shards")


@pytest.fixture
def store(source, tmp_path):
    return extract_embeddings(source, tmp_path / "store", small_extractor(), SETTINGS)


def test_embeddings_are_those_of_each_pair_alone(source, store):
    extractor, by_place = small_extractor(), {record.place: record for record in source.records()}
    table = store.metadata()
    assert list(table.columns) == ["uid", "image_path", "caption", "split", "url", "metadata"]
    assert len(table) == len(store) == 30
    for row, (place, caption) in enumerate(zip(table["image_path"], table["caption"], strict=True)):
        pixels = np.array(Image.open(io.BytesIO(by_place[place].image)).convert("RGB"))
        image, text = extractor.encode_images(pixels[None]), extractor.encode_texts([caption])
        assert torch.allclose(store.image.read(np.array([row])), image, atol=1e-3)
        assert torch.allclose(store.text.read(np.array([row])), text, atol=1e-3)
    assert store.image.stored().dtype == np.float16
    assert json.loads(table["metadata"][0]) == {"n": 1, "url": "http://x"}
    assert table["url"][0] == "http://x"


def test_what_is_broken_is_listed_and_counted(store):
    folder = store.folder
    listed = [record for path in sorted((folder / "quarantine").iterdir()) for record in read_quarantine(path)]
    assert {record.place: record.reason for record in listed} == {
        "a.tar:003": Reason.UNDECODABLE_IMAGE,
        "a.tar:012": Reason.TRUNCATED_IMAGE,
        "a.tar:013": Reason.EMPTY_CAPTION,
        "a.tar:014": Reason.NOT_UTF8,
        "a.tar:020": Reason.LONG_CAPTION,
        "a.tar:025": Reason.DUPLICATE_UID,
        "b.tar": Reason.UNREADABLE_SHARD,
    }
    manifest = store.manifest
    assert manifest["counts"] == {"partitions": 4, "records": 37, "pairs": 30, "cut_captions": 0}
    assert sum(manifest["quarantined"].values()) == 7
    assert manifest["seed"] is None
    assert manifest["config"]["extractor"]["identity"] == "1" * 64
    assert manifest["data_hash"] == manifest["config"]["source"]["fingerprint"]
    assert [len(np.load(path)) for path in sorted((folder / "img_emb").iterdir())] == [9, 7, 8, 6]
    check_files(folder, manifest)
    for number in range(4):
        check_files(folder, json.loads(receipt_path(folder, number).read_text(encoding="utf-8")))


def test_a_caption_is_encoded_once_in_a_partition(source, tmp_path):
    extractor = small_extractor()
    extract_embeddings(source, tmp_path / "store", extractor, ExtractionSettings(partition_size=100))
    assert extractor.clip.texts_encoded == 6


def test_killed_at_any_point_the_result_is_the_same_bit_by_bit(source, store, tmp_path):
    """SIGKILL in a process of its own, in the middle of the third partition; a torn file and a lost one on top."""
    resumed = tmp_path / "resumed"
    command = [sys.executable, __file__, str(tmp_path / "shards"), str(resumed)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with pytest.raises(ManifestError, match="is unfinished"):
        EmbeddingStore.open(resumed)
    assert (resumed / LOCK_NAME).is_file(), "left behind, and taken over below"
    (resumed / "img_emb" / ".img_emb_0002.npy.part").write_bytes(b"half")
    (resumed / "text_emb" / "text_emb_0001.npy").write_bytes(b"torn by a power cut")
    lines = []
    extract_embeddings(
        source,
        resumed,
        small_extractor(),
        SETTINGS,
        workers=1,
        on_progress=lambda progress: progress.message and lines.append(progress.message),
    )
    assert lines[0] == "1 partitions are finished"
    assert files_of(resumed) == files_of(store.folder)
    extractor = small_extractor()
    extract_embeddings(source, resumed, extractor, SETTINGS)
    assert extractor.clip.texts_encoded == 0, "a finished store is only opened"


def test_a_duplicate_of_a_pair_before_the_restart_is_found(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as archive:
        for key in ("0", "1", "2", "0"):
            for extension, data in (("png", picture(1)), ("txt", b"x")):
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    def stop(progress):
        if progress.message:  # a partition is written
            raise KeyboardInterrupt

    settings = ExtractionSettings(partition_size=2)
    with pytest.raises(KeyboardInterrupt):
        extract_embeddings(open_shards(folder), tmp_path / "store", small_extractor(), settings, on_progress=stop)
    store = extract_embeddings(open_shards(folder), tmp_path / "store", small_extractor(), settings)
    assert store.metadata()["uid"].tolist() == ["a/0", "a/1", "a/2"]
    assert store.manifest["quarantined"] == {"duplicate uid": 1}


def test_a_partition_of_broken_records_is_empty(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "a.tar").write_bytes(b"x" * 1000)
    write_shards(folder / "good")
    source = WebdatasetSource([folder / "a.tar", folder / "good" / "a.tar"])
    store = extract_embeddings(source, tmp_path / "store", small_extractor(), ExtractionSettings(partition_size=1))
    assert store.image.shape == (22, WIDTH)
    assert np.load(tmp_path / "store" / "img_emb" / "img_emb_0000.npy").shape == (0, WIDTH)


def test_another_extraction_into_the_same_folder_is_refused(source, store, tmp_path):
    def again(**changes):
        options = {"source": source, "extractor": small_extractor(), "settings": SETTINGS, **changes}
        extract_embeddings(options["source"], store.folder, options["extractor"], options["settings"])

    again()
    with pytest.raises(ValueError, match=r"begun with extractor identity '1111.*expected the same, or a new folder"):
        again(extractor=small_extractor("2" * 64))
    with pytest.raises(ValueError, match="begun with settings batch_size 4, now it is 8"):
        again(settings=ExtractionSettings(partition_size=10, batch_size=8))
    os.utime(tmp_path / "shards" / "a.tar")
    with pytest.raises(ValueError, match="begun with source fingerprint"):
        again()
    with pytest.raises(ValueError, match="holds other things: expected a new folder"):
        extract_embeddings(source, tmp_path / "shards", small_extractor(), SETTINGS)
    with pytest.raises(ValueError, match="partition_size is 0"):
        ExtractionSettings(partition_size=0)


def test_two_extractions_into_one_folder_do_not_mix(source, tmp_path):
    """The first is at work (it stands still inside its first report) when the second begins."""
    folder, refusals = tmp_path / "store", []

    def begin_again(progress):
        if not progress.message:
            return
        with pytest.raises(ValueError, match=rf"store is being written by process {os.getpid()} on ") as refusal:
            extract_embeddings(source, folder, small_extractor(), SETTINGS)
        refusals.append(refusal)

    store = extract_embeddings(source, folder, small_extractor(), SETTINGS, on_progress=begin_again)
    assert len(refusals) == 4
    assert len(store) == 30
    assert not (folder / LOCK_NAME).exists()


def test_a_finished_extraction_opens_without_the_lock(source, tmp_path):
    """So that it opens where nothing may be written, and while another reads it."""
    folder = tmp_path / "again"
    extract_embeddings(source, folder, small_extractor(), SETTINGS)
    with locked(folder):
        assert len(extract_embeddings(source, folder, small_extractor(), SETTINGS)) == 30


def test_processes_write_the_same_bits(tmp_path):
    """Though a uid of the first partition, which one process makes, is in the last one, which another makes."""
    source = write_shards(tmp_path / "shards", repeated=31)
    alone = extract_embeddings(source, tmp_path / "alone", small_extractor(), SETTINGS)
    assert alone.manifest["quarantined"][Reason.DUPLICATE_UID] == 2
    processes = Processes(count=2, load=small_extractor)
    extract_embeddings(source, tmp_path / "together", small_extractor(), SETTINGS, processes=processes)
    assert files_of(tmp_path / "together") == files_of(alone.folder)


def test_what_a_failing_process_leaves_is_made_and_told(source, store, tmp_path):
    told = []
    extract_embeddings(
        source, tmp_path / "together", small_extractor(), SETTINGS, processes=Processes(count=2, load=no_extractor),
        on_progress=lambda progress: told.append(progress.message),
    )  # fmt: skip
    assert "process 1 ended with exit code 1: what it left is made here" in told
    assert files_of(tmp_path / "together") == files_of(store.folder)


def test_pending_partitions_that_were_changed_are_made_again(source, store, tmp_path):
    """As after a run of several processes that was killed before any partition was accepted."""
    folder = shutil.copytree(store.folder, tmp_path / "killed")
    (folder / "manifest.json").unlink()
    for number in range(4):
        receipt_path(folder, number).replace(pending_path(folder, number))
    path = partition_paths(folder, 1)["image"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    extract_embeddings(source, folder, small_extractor(), SETTINGS)
    assert files_of(folder) == files_of(store.folder)


def test_thumbnails_lie_beside_the_embeddings(source, store, tmp_path):
    settings = dataclasses.replace(SETTINGS, thumbnails=12)
    made = extract_embeddings(source, tmp_path / "seen", small_extractor(), settings)
    assert store.thumbnails is None
    assert made.thumbnails.read(np.arange(30)).shape == (30, 12, 12, 3)
    assert (made.image.stored() == store.image.stored()).all()
    by_uid = {record.uid: record for record in source.records() if record.image}
    for row, uid in enumerate(made.metadata()["uid"]):
        pixels = np.array(Image.open(io.BytesIO(by_uid[uid].image)).convert("RGB"))
        assert (made.thumbnails.read(np.array([row]))[0] == square_thumbnail(pixels, 12)).all()
    with pytest.raises(ValueError, match="was begun with settings thumbnails 12, now it is None"):
        extract_embeddings(source, made.folder, small_extractor(), SETTINGS)


def test_a_pair_whose_poison_field_cannot_be_read_is_set_aside(source, tmp_path):
    """Every pair's field n is 1; every url is no flag."""
    flagged = dataclasses.replace(SETTINGS, poison=PoisonFields(flag="n"))
    assert len(extract_embeddings(source, tmp_path / "flagged", small_extractor(), flagged)) == 30
    wrong = dataclasses.replace(SETTINGS, poison=PoisonFields(flag="url"))
    store = extract_embeddings(source, tmp_path / "wrong", small_extractor(), wrong)
    assert (len(store), store.manifest["quarantined"][Reason.UNREADABLE_METADATA]) == (0, 34)
    misspelt = dataclasses.replace(SETTINGS, poison=PoisonFields(flag="m"))
    with pytest.raises(ValueError, match=r"no record has a field 'm': expected one of theirs \(n, url\)"):
        extract_embeddings(source, tmp_path / "misspelt", small_extractor(), misspelt)


def test_an_extractor_without_a_feature_range_embeds(source, store, tmp_path):
    extractor = dataclasses.replace(small_extractor(), feature_range=None)
    made = extract_embeddings(source, tmp_path / "open", extractor, SETTINGS)
    assert (made.image.stored() == store.image.stored()).all()
    assert made.manifest["config"]["extractor"]["feature_range"] is None


def no_extractor():
    """Fails in the other process."""
    raise RuntimeError("no extractor here")


def test_an_empty_source_is_refused(tmp_path):
    tarfile.open(tmp_path / "a.tar", "w").close()
    with pytest.raises(ValueError, match="holds no records"):
        extract_embeddings(WebdatasetSource([tmp_path / "a.tar"]), tmp_path / "store", small_extractor(), SETTINGS)


def extract_and_be_killed(shards, folder):
    """Extract two partitions and SIGKILL this process while the third is being encoded."""
    extractor, finished = small_extractor(), []
    encode_image = extractor.clip.encode_image

    def encode_or_die(pixels):
        if len(finished) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode_image(pixels)

    extractor.clip.encode_image = encode_or_die
    extract_embeddings(
        open_shards(shards),
        folder,
        extractor,
        SETTINGS,
        on_progress=lambda progress: progress.message and finished.append(progress.message),
    )


if __name__ == "__main__":
    extract_and_be_killed(Path(sys.argv[1]), Path(sys.argv[2]))


def test_captions_that_lose_their_end_are_counted_pair_by_pair(tmp_path):
    extractor = dataclasses.replace(
        small_extractor(), overlong=lambda captions: [caption.endswith(("2", "4")) for caption in captions]
    )
    store = extract_embeddings(write_shards(tmp_path / "shards"), tmp_path / "store", extractor, SETTINGS)
    cut = store.metadata()["caption"].str.endswith(("2", "4")).sum()
    assert store.manifest["counts"]["cut_captions"] == cut > 0
