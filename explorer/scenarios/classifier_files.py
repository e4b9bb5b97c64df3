"""The folder that a trained classifier lies in, as a study's judge of pictures."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from explorer.core.provenance import check_files, read_manifest
from explorer.studies.specs import ClassifierSpec

ARCHITECTURE = "resnet18"
KIND = "classifier"
WEIGHTS_NAME, CLASSES_NAME = "model.safetensors", "classes.txt"


def classifier_spec(folder: Path, concepts: Collection[str]) -> ClassifierSpec:
    """What a study says of the classifier in ``folder``, which ``explorer train-classifier`` made.

    Args:
        concepts: what pictures will be asked for.

    Raises:
        ManifestError: if it holds none, or a file was changed.
        ValueError: if none of its classes is one of the concepts.
    """
    manifest = read_manifest(folder, kind=KIND)
    check_files(folder, manifest)
    classes = manifest["config"]["classes"]
    if not set(classes) & set(concepts):
        raise ValueError(f"{folder} knows the classes {', '.join(classes[:10])}: expected some of the {len(concepts)} "
                         f"concepts, {', '.join(sorted(concepts)[:10])}")  # fmt: skip
    place, config = folder.resolve(), manifest["config"]
    return ClassifierSpec(
        architecture=config["architecture"], weights=place / WEIGHTS_NAME, class_names=place / CLASSES_NAME,
        preparation=f"side-{config['side']}",
    )  # fmt: skip
