"""An extractor as small as a CLIP can be, and shards of which some records are broken."""

import io
import json
import tarfile

import numpy as np
import torch
from PIL import Image

from explorer.embeddings.extract import ExtractionSettings
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.pairs.sources.webdataset import WebdatasetSource

SIDE, WIDTH, LONGEST = 16, 8, 24
SETTINGS = ExtractionSettings(partition_size=10, batch_size=4)


class Towers(torch.nn.Module):
    """Two linear towers: as small as a CLIP can be."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image = torch.nn.Linear(3 * SIDE * SIDE, WIDTH)
        self.text = torch.nn.Embedding(256, WIDTH)
        self.texts_encoded = 0

    def encode_image(self, pixels):
        return self.image(pixels.flatten(1))

    def encode_text(self, tokens):
        self.texts_encoded += len(tokens)
        return self.text(tokens).mean(dim=1)


def tokenize(captions):
    rows = [list(caption.encode()) for caption in captions]
    for caption, row in zip(captions, rows, strict=True):
        if len(row) > LONGEST:
            raise ValueError(f"{caption!r} has {len(row)} tokens: expected at most {LONGEST}")
    return torch.tensor([row + [0] * (LONGEST - len(row)) for row in rows])


def preprocess(images):
    resized = [np.array(Image.fromarray(image).resize((SIDE, SIDE))) for image in images]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255


def small_extractor(identity="1" * 64):
    return UniversalExtractor(
        name="towers",
        clip=Towers().eval(),
        tokenize=tokenize,
        preprocess=preprocess,
        feature_range=(0.1, 0.5),
        identity=identity,
    )


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 255, (20 + number % 7, 24, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_shards(folder, repeated=None):
    """37 records in two shards; number 3, 12 to 14, 20, 25 and 26 are broken, and the second shard ends too early.

    Number ``repeated`` has the uid of number 1.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def said(key):
        fields = {"url": "http://x", "n": 1}
        again = repeated is not None and key in ("001", f"{repeated:03d}")
        return json.dumps(fields | {"uid": "001"} if again else fields).encode()

    samples = [(f"{number:03d}", picture(number), f"caption {number % 5}".encode()) for number in range(37)]
    samples[3] = ("003", b"no picture", b"caption 3")
    samples[12:15] = [("012", picture(12)[:300], b"a"), ("013", picture(13), b" "), ("014", picture(14), b"\xff")]
    samples[20] = ("020", picture(20), b"a caption that the tokenizer refuses")
    samples[25:27] = [("025", picture(25), b"twice"), ("025", picture(25), b"twice")]
    for name, part in (("a.tar", samples[:28]), ("b.tar", samples[28:])):
        with tarfile.open(folder / name, "w") as archive:
            for key, image, caption in part:
                for extension, data in (("png", image), ("txt", caption), ("json", said(key))):
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    whole = (folder / "b.tar").read_bytes()
    (folder / "b.tar").write_bytes(whole[: whole.index(b"036.png")])
    return open_shards(folder)


def open_shards(folder):
    return WebdatasetSource(sorted(folder.glob("*.tar")))
