"""The same shards, imported and measured, or embedded and measured: the same AD on the same pixels, or told why not."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.alignment.pair_sets import measure
from explorer.alignment.stores import measure_store
from explorer.core.provenance import ROOT
from explorer.embeddings.extract import ExtractionSettings, extract_embeddings
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.iconworld.world import World, draw_pairs, paint_all
from explorer.pairs.pair_import import import_pairs
from explorer.pairs.sources.detection import open_source


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """24 scenes in the middle of wider and higher pictures of noise."""
    world, generator = World(), np.random.default_rng(0)
    pairs = draw_pairs(world, 24, generator)
    path = tmp_path_factory.mktemp("shards") / "0.tar"
    with tarfile.open(path, "w") as archive:
        for row, (pair, scene) in enumerate(zip(pairs, paint_all(world, [pair.scene for pair in pairs]), strict=True)):
            canvas = generator.integers(0, 256, (150, 190, 3), np.uint8)
            canvas[11:139, 31:159] = np.asarray(Image.fromarray(scene).resize((128, 128)))
            stream = io.BytesIO()
            Image.fromarray(canvas if row % 2 else canvas.transpose(1, 0, 2)).save(stream, "PNG")
            for suffix, data in (("png", stream.getvalue()), ("txt", pair.caption.encode())):
                member = tarfile.TarInfo(f"{row:03d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return open_source(path)


class Towers(torch.nn.Module):
    """Linear towers for what needs an extractor that prepares pictures as open_clip does."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = torch.nn.Linear(3 * 32 * 32, 16), torch.nn.Embedding(256, 16)

    def encode_image(self, pixels):
        return self.image(pixels.flatten(1))

    def encode_text(self, tokens):
        return self.text(tokens).mean(dim=1)


@pytest.fixture(scope="module")
def prepared():
    """An extractor that reads 32 x 32, with open_clip's own preparation of pictures."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    return UniversalExtractor(
        name="prepared", clip=Towers().eval(), feature_range=(-0.5, 0.5), identity="prepared",
        tokenize=lambda captions: torch.tensor([list(caption.ljust(200).encode()[:200]) for caption in captions]),
        preprocess=lambda images: torch.stack([transform(Image.fromarray(image)) for image in images]),
        preparation={"size": 32}, picture_size=32,
    )  # fmt: skip


def both(source, extractor, folder, size, embedded=None):
    """Measured as an import of ``size`` and as a store whose pictures were squared to ``embedded``."""
    pair_set, _ = import_pairs(source, folder / "set", size=size)
    extract_embeddings(source, folder / "store", extractor, ExtractionSettings(size=embedded))
    return measure(pair_set, extractor), measure_store(folder / "store")


def test_the_shipped_extractor_measures_both_ways_on_the_same_pixels(source, tmp_path):
    extractor = UniversalExtractor.load(ROOT / "checkpoints" / "iconworld" / "extractor")
    imported, stored = both(source, extractor, tmp_path, 64)
    assert stored.difficulty.feature_distance.numpy() == pytest.approx(imported.scores("feature_distance"), abs=1e-5)
    assert stored.difficulty.ad == pytest.approx(imported.difficulty.ad, abs=1e-6)
    assert (imported.report()["pictures"], stored.report()["pictures"]) == (
        "64 x 64 pixels",
        "squared to 64 x 64 pixels",
    )


def test_open_clips_preparation_reads_the_pixels_of_an_import_of_its_size(source, prepared, tmp_path):
    imported, stored = both(source, prepared, tmp_path, 32)
    assert stored.difficulty.ad == pytest.approx(imported.difficulty.ad, abs=1e-6)
    assert stored.report()["pictures"] == "as they are, prepared by the extractor"


def test_other_pixels_give_another_ad_and_both_say_what_they_measured(source, prepared, tmp_path):
    imported, stored = both(source, prepared, tmp_path, 16)
    assert abs(stored.difficulty.ad - imported.difficulty.ad) > 1e-4
    assert imported.report()["pictures"] == (
        "16 x 16 pixels, resized to the 32 x 32 that the extractor reads; import with --size 32 for the pixels that "
        "embed reads"
    )
    squared, stored = both(source, prepared, tmp_path / "squared", 16, embedded=16)
    assert stored.difficulty.ad == pytest.approx(squared.difficulty.ad, abs=1e-6)
    assert squared.difficulty.ad == imported.difficulty.ad
