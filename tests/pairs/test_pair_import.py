"""Importing a source: pictures of one size, concepts as whole words, the unusable beside the set."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explorer.core.provenance import ROOT, ManifestError
from explorer.pairs.pair_import import import_pairs, mentioned_concepts, read_concepts, square_thumbnail
from explorer.pairs.pair_set import PairSet
from explorer.pairs.quarantine import QUARANTINE_NAME, Reason, read_quarantine
from explorer.pairs.sources.base import PairSource
from explorer.pairs.sources.detection import open_source

DATA = Path(os.environ.get("IMPLOSION_TEST_DATA", ROOT.parent / "shared" / "data")) / "cifar10"


def picture(size=(60, 30), colour=(200, 10, 30)):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def source(tmp_path):
    files = {
        "a.png": picture(),
        "a.txt": b"A dog on a fire truck, a dog",
        "b.png": b"broken",
        "b.txt": b"a dog",
        "c.png": picture(),
        "c.txt": b"hotdogs",
        "d.txt": b"no picture",
    }
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, data in [*files.items(), ("a.png", picture()), ("a.txt", b"again")]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return open_source(tmp_path / "0.tar")


def test_usable_pairs_become_a_pair_set_and_the_rest_is_listed(source, tmp_path):
    made, quarantined = import_pairs(source, tmp_path / "set", size=16, concepts=("truck", "dog", "fire truck"))
    loaded = PairSet.load(tmp_path / "set")
    assert loaded.table["uid"].tolist() == ["0/a", "0/c"]
    assert [list(names) for names in loaded.table["concepts"]] == [["dog", "fire truck"], []]
    assert loaded.table["place"].tolist() == ["0.tar:a", "0.tar:c"]
    assert loaded.images.shape == (2, 16, 16, 3)
    assert (loaded.images == [200, 10, 30]).all()
    assert loaded.table["is_poison"].isna().all(), "nobody said which pairs are poison"
    assert loaded.table["target_concept"].isna().all()
    expected = {"poisoned_pairs": None, "benign_pairs": None, "unrecorded_pairs": 2}
    assert loaded.manifest["counts"] == {"pairs": 2, "pictures": 2, **expected}
    assert read_quarantine(tmp_path / "set" / QUARANTINE_NAME) == quarantined
    assert {record.place: record.reason for record in quarantined} == {
        "0.tar:b": Reason.UNDECODABLE_IMAGE,
        "0.tar:d": Reason.NO_IMAGE,
        "0.tar:a": Reason.DUPLICATE_UID,
    }
    assert not made.poison.recorded, "nobody said whether there is any"
    assert made.manifest["config"]["quarantined"] == {"duplicate uid": 1, "no image": 1, "undecodable image": 1}
    again, _ = import_pairs(source, tmp_path / "again", size=16, concepts=("truck", "dog", "fire truck"), workers=1)
    assert again.data_hash == made.data_hash


def test_the_middle_is_cut_out():
    image = np.zeros((8, 24, 3), np.uint8)
    image[:, 8:16] = 255
    assert square_thumbnail(image, 8).tolist() == np.full((8, 8, 3), 255).tolist()
    assert square_thumbnail(image, 64)[:, 8:-8].min() == 255
    assert square_thumbnail(image.transpose(1, 0, 2), 8).min() == 255


@pytest.mark.parametrize("shape", [(40, 61), (123, 37), (97, 98), (64, 64), (20, 333)])
def test_pictures_are_squared_to_the_pixel_as_clip_does(shape):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for size in (32, 64, 224):
        transform = Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size)])
        assert (square_thumbnail(image, size) == np.asarray(transform(Image.fromarray(image)))).all()


def test_concepts_are_whole_words():
    find = mentioned_concepts(("dog", "Eiffel Tower", "t-shirt", "c++"))
    assert find("The eiffel tower, a DOG's T-shirt and c++") == ["Eiffel Tower", "dog", "t-shirt", "c++"]
    assert find("dogs, hotdog, underdog_dog") == []
    assert mentioned_concepts(())("a dog") == []
    with pytest.raises(ValueError, match="expected different ones, none blank"):
        mentioned_concepts(("dog", "Dog"))


def test_concepts_file(tmp_path):
    (tmp_path / "nouns.txt").write_text("# animals\ndog\n\nfire truck\n")
    assert read_concepts(tmp_path / "nouns.txt") == ("dog", "fire truck")
    (tmp_path / "nouns.txt").write_text("# none\n")
    with pytest.raises(ValueError, match="names no concepts"):
        read_concepts(tmp_path / "nouns.txt")
    (tmp_path / "nouns.txt").write_text("\ufeffdog\ncat\n", encoding="utf-8")
    assert read_concepts(tmp_path / "nouns.txt") == ("dog", "cat"), "editors on Windows begin a file with a mark"
    (tmp_path / "concepts.csv").write_text("concept,group,phrase\ndog,pool,\nhat,other,a fine hat\n")
    assert read_concepts(tmp_path / "concepts.csv") == ("dog", "hat"), "as a study has them"
    (tmp_path / "table.txt").write_text('"concept","group"\ndog,pool\n')
    assert read_concepts(tmp_path / "table.txt") == ("dog",), "whatever the file is called"
    (tmp_path / "nouns.txt").write_text("concept\nhat\n")
    assert read_concepts(tmp_path / "nouns.txt") == ("concept", "hat"), "a noun like any other"
    for heads in ("dog,hat", "concept;group", "name,group"):
        (tmp_path / "bad.csv").write_text(f"{heads}\nhat,pool\n")
        with pytest.raises(ValueError, match="expected one called concept"):
            read_concepts(tmp_path / "bad.csv")


def test_what_cannot_be_imported_is_refused_and_writes_nothing(source, tmp_path):
    with pytest.raises(ValueError, match="size is 4"):
        import_pairs(source, tmp_path / "set", size=4)
    (tmp_path / "1.tar").write_bytes(b"x" * 2000)
    with pytest.raises(
        ValueError, match=r"no usable pair among 1 records: \{'unreadable shard': 1\}; the first, 1.tar: "
    ):
        import_pairs(open_source(tmp_path / "1.tar"), tmp_path / "set", size=16)
    assert not (tmp_path / "set").exists()


def test_a_finished_import_is_done_and_no_other_one_takes_its_folder(source, tmp_path):
    lines, options = [], {"size": 16, "concepts": ("dog",)}
    made, quarantined = import_pairs(source, tmp_path / "set", **options)
    again, listed = import_pairs(
        source,
        tmp_path / "set",
        **options,
        on_progress=lambda progress: progress.message and lines.append(progress.message),
    )
    assert (again.data_hash, listed) == (made.data_hash, quarantined)
    assert again.manifest["created"] == made.manifest["created"]
    assert lines == [f"{tmp_path / 'set'} is finished: nothing is imported again"]
    for changed, named in (({"size": 24}, "size"), ({"concepts": ("cat",)}, "concepts"), ({"split": "test"}, "split")):
        with pytest.raises(ValueError, match=f"made with another {named}: expected the same source and options"):
            import_pairs(source, tmp_path / "set", **options | changed)
    (tmp_path / "set" / QUARANTINE_NAME).write_bytes(b"another's")
    with pytest.raises(ManifestError, match=r"quarantine\.parquet has SHA-256"):
        import_pairs(source, tmp_path / "set", **options)


def test_two_imports_into_one_folder_never_mix(source, tmp_path):
    """The second, with another source, comes while the first decodes: it is refused, and the set is the first's."""
    refused = []

    class Interrupted(type(source)):
        def records(self, start=0):
            other = tmp_path / "1.tar"
            other.write_bytes(b"x" * 2000)
            with pytest.raises(ValueError, match=f"is being written by process {os.getpid()}"):
                import_pairs(open_source(other), tmp_path / "set", size=16)
            refused.append(True)
            yield from super().records(start)

    made, quarantined = import_pairs(Interrupted(source.files), tmp_path / "set", size=16)
    assert (refused, len(made), len(quarantined)) == ([True], 2, 3)
    assert read_quarantine(tmp_path / "set" / QUARANTINE_NAME) == quarantined
    assert not [path.name for path in (tmp_path / "set").iterdir() if path.name.startswith(".")]


class UnreadSource(PairSource):
    def records(self, start=0):
        raise AssertionError("nothing is read before all is checked")


def test_bad_concepts_and_a_folder_in_use_are_refused_before_anything_is_read(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "images.npy").write_bytes(b"mine")
    (tmp_path / "file").touch()
    for out, concepts, message in (
        ("set", ("dog", "cat", "Dog"), "expected different ones"),
        ("mine", (), "mine already holds images.npy: choose a new folder"),
        ("file", (), "file is no folder: choose a new folder"),
    ):
        with pytest.raises(ValueError, match=message):
            import_pairs(UnreadSource(), tmp_path / out, size=16, concepts=concepts)
    assert (tmp_path / "mine" / "images.npy").read_bytes() == b"mine"
    assert not (tmp_path / "set").exists()


def test_an_import_that_was_cut_off_can_be_made_again(source, tmp_path, monkeypatch):
    def cut_off(*arguments, **options):
        raise OSError("No space left on device")

    with monkeypatch.context() as full:
        full.setattr("explorer.pairs.pair_set.write_manifest", cut_off)
        with pytest.raises(OSError, match="No space left"):
            import_pairs(source, tmp_path / "set", size=16)
    assert (tmp_path / "set" / QUARANTINE_NAME).exists()
    made, quarantined = import_pairs(source, tmp_path / "set", size=16)
    assert (len(made), read_quarantine(tmp_path / "set" / QUARANTINE_NAME)) == (2, quarantined)


@pytest.mark.skipif(not list(DATA.glob("*.tar")), reason=f"no shard in {DATA} (IMPLOSION_TEST_DATA)")
def test_a_real_shard(tmp_path):
    made, quarantined = import_pairs(open_source(str(DATA / "*.tar")), tmp_path / "set", size=32, concepts=("cat",))
    assert (len(made), quarantined) == (1000, [])
    with tarfile.open(next(DATA.glob("*.tar"))) as archive:
        first = np.asarray(Image.open(archive.extractfile("000000000.jpg")).convert("RGB"))
    assert (made.images[0] == first).all(), "32 x 32 pictures stay as they are"
