"""Screen 4, Alignment difficulty: AD of pair sets at any alpha, distributions, growth, calculators.

The first view is one precomputed payload drawn in the browser (``alignment_screen.js``). Measuring a pair
set of one's own is a button, and only that imports torch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from explorer.alignment.payload_formats import ALIGNMENT
from explorer.core.provenance import MANIFEST_NAME, ManifestError, hash_json, is_disk_full
from explorer.pairs.pair_set import IMAGES_NAME, PAIRS_NAME
from explorer.ui.screens.alignment.calculators import build_calculators
from explorer.ui.screens.implosion.payload import PAPER_TABLE
from explorer.ui.shell.context import PRECOMPUTE_HINT, AppContext, is_told
from explorer.ui.shell.messages import notice
from explorer.ui.shell.viewer import viewer

CONVENTIONS = ("authors", "halved")
MODEL_WORK = "model-work"
"""Shared with live generation: only one of them works at a time."""


def build_alignment_screen(context: AppContext) -> None:
    """Add the screen to the Blocks being built."""
    url = context.add_payload("alignment", lambda: alignment_payload(context))
    screen = viewer("alignment_screen", {"url": url}, elem_id="alignment-viewer", label="alignment difficulty")
    build_calculators()
    with gr.Accordion("Measure a pair set of your own", open=False):
        gr.Markdown(
            "Folder of a pair set on this machine (`pairs.parquet`, `images.npy`, `manifest.json`). Its features are "
            "kept beside it; 50,000 pairs take about a minute on two cores."
        )
        with gr.Row(equal_height=True):
            folder = gr.Textbox(label="Folder", placeholder="runs/cpu/sets/dirty-020", scale=3)
            convention = gr.Dropdown(
                CONVENTIONS, value="authors", label="Cosine distance: 1 − cos (authors) or half of it", scale=1
            )
            measure = gr.Button("Measure", variant="primary", scale=1)
        answer = gr.HTML()
    measured = gr.State([])
    measure.click(
        lambda: notice("Computing features and AD of every pair …", kind="working"), outputs=answer, queue=False,
        api_visibility="private",
    ).then(
        lambda folder, convention, earlier: _measure_on_screen(context, url, folder, convention, earlier),
        inputs=[folder, convention, measured],
        outputs=[screen, measured, answer],
        concurrency_id=MODEL_WORK,
        concurrency_limit=1,
        preprocess=False,
        api_visibility="private",
    )  # fmt: skip

    def alignment_difficulty(folder: str, convention: str = "authors") -> dict[str, Any]:
        """AD, its parts with standard errors, distributions and AUCs of a pair set's folder."""
        try:
            return measure_folder(context, folder, convention)
        except Exception as error:
            raise gr.Error(context.in_words(error), print_exception=not is_told(error)) from error

    gr.api(alignment_difficulty, api_name="alignment_difficulty", concurrency_id=MODEL_WORK, concurrency_limit=1)


def alignment_payload(context: AppContext) -> dict[str, Any]:
    """What the browser draws: ``alignment.json`` and the paper's Table 1.

    Raises:
        ManifestError: if the artefact is missing, changed, or not in this version's format.
    """
    payload = ALIGNMENT.checked(context.precomputed_json(ALIGNMENT.name), PRECOMPUTE_HINT)
    return {**payload, "paper": json.loads(PAPER_TABLE.read_text(encoding="utf-8"))}


def measure_folder(context: AppContext, folder: str, convention: str) -> dict[str, Any]:
    """A pair set's entry as in ``alignment.json``, measured now; imports torch.

    Raises:
        ValueError: on an empty or wrong folder, an unknown convention, or no extractor to measure with; it names the
            folder as it was given.
    """
    given = (folder or "").strip()
    if not given:
        raise ValueError("No folder is given: write the path of a pair set, for example runs/cpu/sets/dirty-020.")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}: expected one of {', '.join(CONVENTIONS)}")
    path = Path(given)
    if given.startswith("~/"):  # the user's own home alone: whose others there are is nobody's business
        path = path.expanduser()
    if not _are_files(path / name for name in (MANIFEST_NAME, PAIRS_NAME, IMAGES_NAME)):
        raise ValueError(f"{given} is no pair set: expected pairs.parquet, images.npy and manifest.json in it.")
    extractor_folder = context.settings.checkpoints / "extractor"
    if not extractor_folder.is_dir():
        raise ValueError(f"{extractor_folder} is missing: AD needs the universal extractor.")
    try:
        return context.models.do(lambda: _describe_folder(path, convention, extractor_folder))
    except (ValueError, OSError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise ValueError(context.without_places(told.replace(str(path), given))) from error


def _are_files(paths: Iterable[Path]) -> bool:
    """Whether all are regular files, which alone are never waited for; no for a path that cannot be one."""
    try:
        return all(path.is_file() for path in paths)
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _describe_folder(path: Path, convention: str, extractor_folder: Path) -> dict[str, Any]:
    from explorer.alignment.description import describe_measurement
    from explorer.alignment.pair_sets import measure
    from explorer.embeddings.universal_extractor import UniversalExtractor
    from explorer.pairs.pair_set import PairSet

    pair_set = PairSet.load(path)
    split = "train" if len(pair_set.training_rows) else None  # a set of held-out pairs alone is measured whole
    measured = measure(pair_set, UniversalExtractor.load(extractor_folder), convention=convention, split=split)
    called = path.name or "this folder"
    name = called if convention == "authors" else f"{called} ({convention})"
    return describe_measurement(name, pair_set, measured)


def name_beside(entry: dict[str, Any], others: list[dict[str, Any]]) -> str:
    """What to call a measured set beside others: its folder's name, made longer where that means something else.

    The same pairs measured again in the same way keep their name, wherever their folder lies.
    """
    name, identities = entry["name"], {other["name"]: _identity(other) for other in others}
    if identities.get(name, _identity(entry)) == _identity(entry):
        return name
    return f"{name} [{hash_json(_identity(entry))[:8]}]"


def _identity(entry: dict[str, Any]) -> tuple[Any, ...]:
    difficulty = entry["alignment_difficulty"]
    feature_range = difficulty["feature_range"] and tuple(difficulty["feature_range"])
    return entry["data_hash"], entry["extractor"], difficulty["convention"], feature_range


def _bundled_sets(context: AppContext) -> list[dict[str, Any]]:
    try:
        return alignment_payload(context)["sets"]
    except ManifestError:  # the viewer shows why
        return []


def _measure_on_screen(
    context: AppContext, url: str, folder: str, convention: str, earlier: list[dict[str, Any]]
) -> tuple[Any, list[dict[str, Any]], str]:
    """The viewer's new value, the sets measured so far, and a message."""
    try:
        entry = measure_folder(context, folder, convention)
    except Exception as error:  # whatever it is, the page must not go on saying that it works
        if is_disk_full(error):
            error = OSError("the disk is full, where the set lies: free some space and measure again")
        told = context.in_words(error)
        if not is_told(error):
            logging.getLogger(__name__).exception("A pair set could not be measured")
        return gr.skip(), earlier, notice(told, kind="error", title="Not measured.")
    entry["name"] = name_beside(entry, [*_bundled_sets(context), *earlier])
    measured = [*(other for other in earlier if other["name"] != entry["name"]), entry]
    difficulty = entry["alignment_difficulty"]
    words = (
        f"{entry['name']}: AD {difficulty['ad']:.4f} (feature {difficulty['feature_ad']:.4f}, structure "
        f"{difficulty['structure_ad']:.4f}) over {difficulty['n']:,} pairs. It is now among the sets above."
    )
    return {"url": url, "measured": measured}, measured, notice(words, kind="done", title="Measured.")
