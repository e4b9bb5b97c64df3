"""What the pictures of IconWorld's pairs show, kept in a study: they are painted again where the pairs are not.

A scene is a few numbers and names, so that those of 9,500 pairs take less than 0.2 MB, where their pictures take 117.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.folder_lock import locked
from explorer.core.progress import OnProgress, counted, note, unheard
from explorer.core.provenance import MANIFEST_NAME, check_files, read_manifest, replacing, write_manifest
from explorer.iconworld.scenes import Scene
from explorer.iconworld.world import World
from explorer.pairs.pair_set import PairSet
from explorer.studies.pairs_found import PAIR_SET, pairs_kind
from explorer.studies.study import Arm, Study

SCENES_FOLDER = "scenes"
"""Of a study."""
KIND = "scenes"
COLUMN = "scene"
PAINTED_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptScenes:
    """Of the N pairs of an arm, in the order of its table."""

    world: World
    described: list[str]
    """N JSON objects, as :meth:`~explorer.iconworld.scenes.Scene.describe` has them."""
    data_hashes: tuple[str, ...]
    """By which results name the pairs."""

    def paint(self, rows: np.ndarray) -> np.ndarray:
        """The pictures at ``rows``, int `[n]` in 0..N-1, to the bit: uint8 ``[n, 64, 64, 3]``."""
        return np.stack([self.world.paint(Scene.parse(json.loads(self.described[row]))) for row in rows])


def scenes_file(study_folder: Path, arm: str) -> Path:
    """Where those of an arm are, if they are kept."""
    return study_folder / SCENES_FOLDER / f"{arm}.parquet"


def read_scenes(study_folder: Path, arm: str) -> KeptScenes | None:
    """Those of an arm; None where none are kept.

    Raises:
        ManifestError: if a file was changed since it was written.
    """
    import pyarrow.parquet

    if not (path := scenes_file(study_folder, arm)).is_file():
        return None
    manifest = read_manifest(path.parent, kind=KIND)
    check_files(path.parent, manifest, [path.name])
    of_arm, table = manifest["config"]["arms"][arm], pyarrow.parquet.read_table(path)
    return KeptScenes(
        world=World.from_config(of_arm["world"]), described=table[COLUMN].to_pylist(),
        data_hashes=tuple(of_arm["data_hashes"]),
    )  # fmt: skip


def keep_scenes(study: Study, on_progress: OnProgress = unheard) -> list[str]:
    """Keep the scenes of every arm whose pairs are a set of IconWorld's and lie here; returns these arms. What was kept
    of others stays.

    Every picture of every arm is painted and compared first: one that was perturbed afterwards is no scene's.

    Raises:
        ManifestError: if what was kept of other arms was changed since.
        ValueError: if there is no such arm, or naming one whose pictures are not what its scenes show.
    """
    folder = study.folder / SCENES_FOLDER
    with locked(folder):
        found: dict[str, KeptScenes] = {}
        for arm in study.arms:
            if (pairs := _painted_pairs(arm)) is None:
                on_progress(note(f"{arm.name} has no scenes: its pairs are no set of IconWorld's that lies here"))
                continue
            found[arm.name] = _compared(arm.name, pairs, on_progress)
        if not found:
            raise ValueError(f"no arm of {study.folder} has pairs that IconWorld painted: expected a set of its own")
        _write(study.folder, found)
    return list(found)


def _write(study_folder: Path, found: Mapping[str, KeptScenes]) -> None:
    import pyarrow
    import pyarrow.parquet

    folder = study_folder / SCENES_FOLDER
    arms: dict[str, Any] = {}
    if (folder / MANIFEST_NAME).is_file():
        before = read_manifest(folder, kind=KIND)
        arms = {arm: told for arm, told in before["config"]["arms"].items() if arm not in found}
        check_files(folder, before, [scenes_file(study_folder, arm).name for arm in arms])
    for arm, scenes in found.items():
        with replacing(scenes_file(study_folder, arm)) as temporary:
            table = pyarrow.table({COLUMN: scenes.described})
            pyarrow.parquet.write_table(table, temporary, compression="zstd")
        arms[arm] = {"world": scenes.world.config(), "data_hashes": list(scenes.data_hashes)}
    files = [scenes_file(study_folder, arm).name for arm in arms]
    write_manifest(folder, kind=KIND, config={"arms": arms}, seed=None, files=files)


def _painted_pairs(arm: Arm) -> PairSet | None:
    if not isinstance(arm.pairs, Path) or pairs_kind(arm.pairs) != PAIR_SET:
        return None
    pairs = PairSet.load(arm.pairs)
    return pairs if COLUMN in pairs.table and "world" in pairs.manifest["config"] else None


def _compared(arm: str, pairs: PairSet, on_progress: OnProgress) -> KeptScenes:
    """The set's scenes, each of which shows its picture."""
    scenes = KeptScenes(
        world=World.from_config(pairs.manifest["config"]["world"]), described=pairs.table[COLUMN].tolist(),
        data_hashes=pairs.data_hashes,
    )  # fmt: skip
    starts = range(PAINTED_AT_ONCE, len(pairs), PAINTED_AT_ONCE)
    for rows in counted(np.split(np.arange(len(pairs)), starts), on_progress, f"painting {arm}", "part"):
        other = (scenes.paint(rows) != pairs.read_images(rows)).any(axis=(1, 2, 3))
        if other.any():
            uid = pairs.table["uid"].iloc[rows[other.argmax()]]
            raise ValueError(f"the picture of {uid} in {arm} is not what its scene shows: expected it as painted")
    return scenes
