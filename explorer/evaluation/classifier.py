"""A torchvision classifier as the judge of pictures, as of CIFAR-10 and ImageNet in Ding et al. (2024), section 5.4."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from explorer.checkpoints.placement import check_place
from explorer.core.provenance import hash_file
from explorer.evaluation.local_weights import read_tensors
from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

BATCH = 64
BROKEN = "(broken)"
"""Name of the class of pictures that show nothing, of a classifier that has one."""
OWN_PREPARATION = re.compile(r"side-([1-9][0-9]*)")


@dataclass(frozen=True, kw_only=True)
class PictureClassifier:
    """The class of each picture, and which classes are a concept's."""

    model: torch.nn.Module
    """Gives ``[n, classes]``; in evaluation mode."""
    architecture: str
    """As ``torchvision.models.list_models()`` has it."""
    weights: Path
    """Where the weights came from."""
    prepare: Callable[[torch.Tensor], torch.Tensor]
    """uint8 ``[n, 3, H, W]`` to what the model reads."""
    preparation: str
    """torchvision's name of the pretrained weights whose preparation that is."""
    class_matches: torch.Tensor
    """bool ``[concepts, classes]``: which classes are called like the concept, or like its noun."""
    broken: int | None = None
    """Which class is :data:`BROKEN`; None where there is none."""
    device: str = "cpu"
    name: str = "classifier"

    @staticmethod
    def load(
        architecture: str, weights: Path, class_names: Path, concepts: ConceptList, *, preparation: str | None = None,
        device: str = "cpu",
    ) -> PictureClassifier:  # fmt: skip
        """A model of torchvision with local weights; nothing is downloaded.

        Args:
            architecture: as ``torchvision.models.list_models()`` has it, as ``resnet50``.
            weights: .safetensors file of the model's state.
            class_names: text file, a line for each class in the order of the model's outputs; several names of one
                class are parted by commas.
            concepts: a class is a concept's where one of its names is the concept's name or noun, letter case ignored.
            preparation: torchvision's name of the weights whose pictures were prepared in the same way, as
                ``IMAGENET1K_V1``, or ``side-64`` for pictures of 64 x 64 pixels of a classifier of one's own
                (:func:`own_preparation`); None where all of the architecture agree.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: for an architecture or a preparation that torchvision does not know or that is not decided,
                weights that do not fit, names of no concept, or a device that this machine lacks.
        """
        check_place(device, None)
        names = [line.split(",") for line in class_names.read_text(encoding="utf-8").splitlines() if line.strip()]
        matches = _matches([[name.strip().lower() for name in line] for line in names], concepts)
        if not matches.any():
            raise ValueError(f"{class_names} names none of the {len(concepts.names)} concepts: expected some of them")
        tag, prepare = _preparation(architecture, preparation)
        return PictureClassifier(
            model=_build(architecture, weights, len(names)).to(device).eval(), architecture=architecture,
            weights=weights, prepare=prepare, preparation=tag, class_matches=matches, device=device,
            broken=next((at for at, line in enumerate(names) if [name.strip() for name in line] == [BROKEN]), None),
        )  # fmt: skip

    @torch.no_grad()
    def read(self, images: np.ndarray) -> dict[str, Any]:
        """``classes`` int64 ``[n]``, the likeliest of each picture uint8 ``[n, H, W, 3]``, ``class_matches``, and
        ``broken_class``, :attr:`broken`."""
        classes = [self.model(self.prepare(part.permute(0, 3, 1, 2)).to(self.device)).argmax(dim=1).cpu()
                   for part in torch.from_numpy(images).split(BATCH)]  # fmt: skip
        return {"classes": torch.cat(classes), "class_matches": self.class_matches, "broken_class": self.broken}

    def describe(self) -> dict[str, Any]:
        """The model, the hash of its weights, how pictures are prepared, and how many concepts have a class."""
        return {
            "architecture": self.architecture,
            "weights": self.weights.name,
            "sha256": hash_file(self.weights),
            "preparation": self.preparation,
            "concepts_with_a_class": int(self.class_matches.any(dim=1).sum()),
        }


def own_preparation(side: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """How a classifier of one's own reads pictures uint8 ``[n, 3, H, W]``: resized to ``side`` x ``side`` pixels,
    whatever their shape, then normalised as ImageNet's are."""
    from torchvision.transforms import v2

    return v2.Compose([
        v2.Resize((side, side), antialias=True), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ])  # fmt: skip


def _matches(names: list[list[str]], concepts: ConceptList) -> torch.Tensor:
    called = [{each.name.lower(), each.noun.lower()} for each in concepts.concepts]
    return torch.tensor([[not wanted.isdisjoint(line) for line in names] for wanted in called])


def _preparation(architecture: str, tag: str | None) -> tuple[str, Any]:
    from torchvision.models import get_model_weights, list_models

    if architecture not in list_models():
        raise ValueError(
            f"torchvision knows no model {architecture!r}: expected one of torchvision.models.list_models()"
        )
    if tag is not None and (own := OWN_PREPARATION.fullmatch(tag)):
        return tag, own_preparation(int(own[1]))
    known = {each.name: each.transforms() for each in get_model_weights(architecture)}
    if tag is None and len({repr(each) for each in known.values()}) > 1:
        raise ValueError(
            f"pretrained weights of {architecture} prepare pictures differently, and a file does not say which it is: "
            f"expected a preparation, one of {', '.join(known)}"
        )
    tag = tag or next(iter(known))
    if tag not in known:
        raise ValueError(
            f"preparation is {tag!r}: expected side-N, N in pixels, or one of {architecture}'s, {', '.join(known)}"
        )
    return tag, known[tag]


def _build(architecture: str, weights: Path, classes: int) -> torch.nn.Module:
    from torchvision.models import get_model

    tensors = read_tensors(weights)
    model = get_model(architecture, weights=None, num_classes=classes)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{weights} does not fit {architecture} of {classes} classes, a line each of the class names: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return model
