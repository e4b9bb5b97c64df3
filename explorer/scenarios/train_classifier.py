"""Train a ResNet-18 on the benign pairs of a set of classes: the judge of Ding et al. (CCS 2024), section 5.4.

The paper takes one that was pretrained on ImageNet; this one starts from random weights, since none can be shipped.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from explorer.core.new_folder import appearing_whole, check_new_folder
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import MANIFEST_NAME, read_manifest, write_manifest
from explorer.evaluation.classifier import BROKEN, own_preparation
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.broken_pictures import TRAINED, UNSEEN, break_pictures
from explorer.scenarios.classifier_files import ARCHITECTURE, CLASSES_NAME, KIND, WEIGHTS_NAME
from explorer.training.config import TrainingConfig
from explorer.training.trainer import train

SHIFT = 1 / 8
"""Of augmentation: how far a picture moves at most, in sides."""
MEASURED_AT_ONCE = 256
BROKEN_SHARE = 0.2
"""Of every batch, where there is a class for broken pictures."""


class ClassifierLoss(torch.nn.Module):
    """Cross-entropy of a classifier of prepared pictures."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """``images`` ``[n, 3, S, S]``, ``labels`` int64 ``[n]``; returns a scalar."""
        return functional.cross_entropy(self.model(batch["images"]).float(), batch["labels"])


class ClassifierTask:
    """Pictures uint8 ``[N, H, W, 3]`` and their classes int64 ``[N]``, mirrored and moved at random.

    Args:
        broken: the class of broken pictures, into which a fifth of every batch is made; None for none.
    """

    def __init__(
        self, network: ClassifierLoss, images: np.ndarray, labels: np.ndarray, side: int, broken: int | None = None
    ) -> None:
        self.network, self.images, self.broken = network, images, broken
        self.labels, self.prepare = torch.from_numpy(labels), own_preparation(side)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """The prepared pictures, each mirrored or not, and moved by up to an eighth of its side; what moves in is the
        picture's mirrored edge."""
        images = self.prepare(torch.from_numpy(self.images[indices.numpy()]).permute(0, 3, 1, 2))
        mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(mirrored, images.flip(-1), images)
        shift = (2 * torch.rand(len(images), 2, generator=generator) - 1) * 2 * SHIFT
        turn = torch.eye(2).expand(len(images), 2, 2)
        grid = functional.affine_grid(torch.cat((turn, shift[:, :, None]), dim=2), images.shape, align_corners=False)
        images = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        labels = self.labels[indices]
        if self.broken is not None:
            count = round(BROKEN_SHARE * len(images))
            images = torch.cat((images[count:], break_pictures(images[:count], generator)))
            labels = torch.cat((labels[count:], torch.full((count,), self.broken)))
        return {"images": images.contiguous(memory_format=torch.channels_last), "labels": labels}


def train_classifier(
    pairs: PairSet, config: TrainingConfig, folder: Path, *, run: Path, side: int, held_out: PairSet | None = None,
    broken: bool = False, device: str = "cpu", on_progress: OnProgress = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Train on the training split of ``pairs``, every pair labelled with the class that it shows, and publish it.

    Args:
        pairs: a set of which it is recorded that no pair is poison, each with a main concept: its class.
        folder: new folder for weights, class names and manifest; one that this very call finished is left as it is.
        run: folder of the training state; the same call again goes on where it was cut off.
        side: pixels a side that pictures are resized to.
        held_out: pairs to measure the accuracy on; without them it is not measured.
        broken: with one more class, :data:`~explorer.evaluation.classifier.BROKEN`, of pictures that show nothing: a
            fifth of every batch is broken (:mod:`~explorer.scenarios.broken_pictures`).

    Returns:
        The manifest: ``metrics`` holds ``accuracy`` on the pictures held out, in [0, 1], None where there are none; and
        with ``broken`` how often pictures held out are taken for broken: ``called_broken``, of ``whole`` ones and of
        those broken in each way, the last of which no batch held.

    Raises:
        ValueError: if a pair is poison or not recorded, has no concept, is held out of a class that is not trained
            on, ``folder`` holds something else, or batches are too small for broken pictures.
    """
    classes, labels = _labels(pairs)
    if broken and round(BROKEN_SHARE * config.batch_size) < len(TRAINED):
        raise ValueError(f"batch_size is {config.batch_size}: expected 13 or more, so that a fifth of a batch can be "
                         f"broken in {len(TRAINED)} ways")  # fmt: skip
    if broken:
        classes = [*classes, BROKEN]
    config_told = {"architecture": ARCHITECTURE, "side": side, "training": asdict(config), "classes": classes,
                   "held_out": None if held_out is None else held_out.data_hash}  # fmt: skip
    if (folder / MANIFEST_NAME).exists():
        return _check_same(folder, config_told, pairs)
    check_new_folder(folder)
    tested = None if held_out is None else _labels(held_out, classes)[1]
    images = pairs.images[pairs.table["image_index"].to_numpy()[pairs.training_rows]]
    network = ClassifierLoss(_build(len(classes), config.seed))
    task = ClassifierTask(network, images, labels, side, classes.index(BROKEN) if broken else None)
    identity = {"kind": KIND, "data": pairs.data_hash, "side": side, "architecture": ARCHITECTURE}
    if broken:
        identity["broken"] = list(TRAINED)
    model = train(task, config, run, identity=identity, device=device, on_progress=on_progress).model.eval()
    metrics = {"accuracy": None} | ({"called_broken": None} if broken else {})
    if tested is not None:
        metrics |= _measured(model.to(device), held_out, tested, side, broken, config.seed)
    return _publish(folder, model.cpu(), config_told, config.seed, pairs.data_hash, metrics)


def _labels(pairs: PairSet, classes: list[str] | None = None) -> tuple[list[str], np.ndarray]:
    """The classes, in alphabetical order, and the number of each training pair's (of every pair, with ``classes``)."""
    if not pairs.flags.recorded or pairs.flags.poisoned.any():
        raise ValueError(
            f"{pairs.folder} holds {int(pairs.flags.poisoned.sum())} poison pairs, and of "
            f"{int(pairs.flags.unrecorded.sum())} nobody recorded whether they are: expected benign pairs alone"
        )
    table = pairs.table if classes is not None else pairs.table.iloc[pairs.training_rows]
    named = [concepts[0] if len(concepts) else "" for concepts in table["concepts"]]
    if "" in named:
        raise ValueError(f"pair {table['uid'].iloc[named.index('')]!r} has no concept: expected a class for every pair")
    known = classes or sorted(set(named))
    if BROKEN in named:
        raise ValueError(f"{pairs.folder} has pairs of the concept {BROKEN!r}, as the class of broken pictures is "
                         "called: expected another name")  # fmt: skip
    if unknown := sorted(set(named) - set(known)):
        raise ValueError(f"{unknown[0]!r} is a class of {pairs.folder} alone: expected one of {', '.join(known)}")
    number = {name: at for at, name in enumerate(known)}
    return known, np.array([number[name] for name in named])


def _build(classes: int, seed: int) -> torch.nn.Module:
    from torchvision.models import get_model

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return get_model(ARCHITECTURE, weights=None, num_classes=classes).to(memory_format=torch.channels_last)


@torch.no_grad()
def _measured(
    model: torch.nn.Module, pairs: PairSet, labels: np.ndarray, side: int, broken: bool, seed: int
) -> dict[str, Any]:
    """The metrics of the manifest, of all pairs."""
    prepare, generator = own_preparation(side), torch.Generator().manual_seed(seed)
    device, right, called = next(model.parameters()).device, 0, dict.fromkeys(("whole", *TRAINED, *UNSEEN), 0)
    for rows in np.array_split(np.arange(len(labels)), -(-len(labels) // MEASURED_AT_ONCE)):
        images = prepare(
            torch.from_numpy(pairs.images[pairs.table["image_index"].to_numpy()[rows]]).permute(0, 3, 1, 2)
        )
        scores = model(images.to(device)).cpu()
        right += int((scores.argmax(dim=1) == torch.from_numpy(labels[rows])).sum())
        if broken:
            shown = {"whole": scores} | {way: model(breaking(images, generator).to(device)).cpu()
                                         for way, breaking in (TRAINED | UNSEEN).items()}  # fmt: skip
            for way, found in shown.items():
                called[way] += int((found.argmax(dim=1) == found.shape[1] - 1).sum())
    metrics = {"accuracy": right / len(labels)}
    return metrics | ({"called_broken": {way: n / len(labels) for way, n in called.items()}} if broken else {})


def _publish(
    folder: Path, model: torch.nn.Module, config: dict[str, Any], seed: int, data_hash: str, metrics: dict[str, Any]
) -> dict[str, Any]:
    with appearing_whole(folder) as beside:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, beside / WEIGHTS_NAME)
        (beside / CLASSES_NAME).write_text("".join(f"{name}\n" for name in config["classes"]), encoding="utf-8")
        write_manifest(
            beside, kind=KIND, config=config, seed=seed, data_hash=data_hash, files=[WEIGHTS_NAME, CLASSES_NAME],
            metrics=metrics,
        )  # fmt: skip
    return read_manifest(folder, kind=KIND)


def _check_same(folder: Path, config: dict[str, Any], pairs: PairSet) -> dict[str, Any]:
    manifest = read_manifest(folder, kind=KIND)
    asked, known = json.loads(json.dumps(config)), manifest["config"]
    if differing := sorted(name for name in asked if known.get(name) != asked[name]):
        raise ValueError(f"{folder} holds a classifier of another {', '.join(differing)}: choose a new folder")
    if not pairs.is_known_as(manifest["data_hash"]):
        raise ValueError(f"{folder} holds a classifier of other pairs: choose a new folder")
    return manifest
