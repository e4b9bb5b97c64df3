"""The embedded extractor on a GPU gives the CPU's features."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.embeddings.extract import extract_embeddings
from explorer.embeddings.extraction_settings import ExtractionSettings
from explorer.embeddings.universal_extractor import (
    TOKENIZER_FOLDER,
    UniversalExtractor,
    build_clip,
    save_extractor,
    small_clip_config,
)
from explorer.iconworld.grammar import lexicon, photo_of
from explorer.iconworld.tokenizer import save_tokenizer
from explorer.iconworld.world import World
from explorer.pairs.sources.webdataset import WebdatasetSource
from explorer.scenarios.train_extractor import make_tokenizer

COUNT, CONTEXT = 24, 28
CLOSE = 2e-3
"""Of a feature's entry: TF32's 10 bits in the convolution that makes patches, and fp16's in a store."""


@pytest.fixture(scope="module")
def world():
    return World(concept_count=8)


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """An extractor of the embedded world's shape, with random weights."""
    folder = tmp_path_factory.mktemp("extractor")
    tokenizer = make_tokenizer(world, CONTEXT)
    save_tokenizer(tokenizer, lexicon(world.concepts), folder / TOKENIZER_FOLDER)
    config = small_clip_config(len(tokenizer), CONTEXT)
    save_extractor(
        folder, build_clip(config, seed=1), config, name="random", feature_range=(0.1, 0.6), config={}, seed=1,
        data_hash="0" * 64, metrics={},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def source(world, pictures, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, pixels in enumerate(pictures):
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            caption = photo_of(world.concepts[number % 8]).encode()
            for extension, data in (("png", stream.getvalue()), ("txt", caption)):
                member = tarfile.TarInfo(f"{number:03d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return WebdatasetSource([tmp_path / "a.tar"])


@pytest.mark.cuda
def test_features_are_near_the_cpus(folder, pictures, world):
    on_cpu, on_gpu = (UniversalExtractor.load(folder, device) for device in ("cpu", "cuda"))
    captions = [photo_of(concept) for concept in world.concepts]
    for found, expected in (
        (on_gpu.encode_images(pictures, batch_size=7), on_cpu.encode_images(pictures)),
        (on_gpu.encode_texts(captions, batch_size=3), on_cpu.encode_texts(captions)),
    ):
        assert found.device.type == "cpu"
        off = (found - expected).abs().max().item()
        assert off <= CLOSE, f"off by {off:.3g}"
        assert (found.norm(dim=1) - 1).abs().max() < 1e-5


@pytest.mark.cuda
def test_a_store_made_on_the_gpu_is_near_the_cpus(folder, source, tmp_path):
    settings = ExtractionSettings(partition_size=10, batch_size=4)
    stores = {
        device: extract_embeddings(source, tmp_path / device, UniversalExtractor.load(folder, device), settings)
        for device in ("cpu", "cuda")
    }
    everything = np.arange(COUNT)
    for part in ("image", "text"):
        found, expected = (getattr(stores[device], part).read(everything) for device in ("cuda", "cpu"))
        off = (found - expected).abs().max().item()
        assert off <= CLOSE, f"{part} features are off by {off:.3g}"
    assert stores["cuda"].manifest["config"]["extractor"]["device"] == "cuda"
    # The same extraction in another folder, from the start: a GPU repeats itself for the same batches.
    again = extract_embeddings(source, tmp_path / "again", UniversalExtractor.load(folder, "cuda"), settings)
    assert torch.equal(again.image.read(everything), stores["cuda"].image.read(everything))
