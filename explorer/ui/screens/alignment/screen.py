"""Screen 4, Alignment difficulty: AD of pair sets at any alpha, distributions, growth, calculators.

The first view is one precomputed payload drawn in the browser (``alignment_screen.js``). Measuring a pair
set of one's own is a button, and only that imports torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.alignment.description import describe_measurement
from explorer.alignment.payload_formats import ALIGNMENT
from explorer.core.provenance import MANIFEST_NAME, ManifestError, hash_json, is_disk_full
from explorer.evaluation.config import EVALUATION_NAME
from explorer.pairs.pair_set import IMAGES_NAME, PAIRS_NAME, PairSet
from explorer.results.paper import paper_table
from explorer.studies.extractors import load_extractor
from explorer.studies.results import EVALUATION, SCORES
from explorer.ui.screens.alignment.calculators import build_calculators
from explorer.ui.shell.context import AppContext
from explorer.ui.shell.drawn import how_drawn
from explorer.ui.shell.messages import notice
from explorer.ui.shell.model_thread import MODEL_WORK
from explorer.ui.shell.open_study import OpenStudy, is_told
from explorer.ui.shell.page_address import Shows, send_address, study_named
from explorer.ui.shell.viewer import viewer

if TYPE_CHECKING:
    from explorer.studies.study import Study
    from explorer.ui.shell.model_thread import ModelThread

CONVENTIONS = ("authors", "halved")


def build_alignment_screen(context: AppContext, address: gr.Textbox, shows: Shows) -> None:
    """Add the screen to the Blocks being built.

    Args:
        address: see :func:`~explorer.ui.shell.page_address.address_input`.
        shows: what was measured for a study is put away when another is chosen.
    """
    url = context.add_payload("alignment", alignment_payload)
    screen = viewer("alignment_screen", {"url": url}, elem_id="alignment-viewer", label="alignment difficulty")
    build_calculators()
    _build_measuring(context, url, screen, address, shows)

    def alignment_difficulty(folder: str, convention: str = "authors", study: str = "") -> dict[str, Any]:
        """AD, its parts with standard errors, distributions and AUCs of a pair set's folder, by a study's extractor."""
        opened = context.studies[0]
        try:
            opened = context.study(study)
            return measure_folder(opened, context.models, folder, convention)
        except Exception as error:
            raise gr.Error(opened.in_words(error), print_exception=not is_told(error)) from error

    gr.api(alignment_difficulty, api_name="alignment_difficulty", concurrency_id=MODEL_WORK, concurrency_limit=1)


def _build_measuring(context: AppContext, url: str, screen: gr.HTML, address: gr.Textbox, shows: Shows) -> None:
    with gr.Accordion("Measure a pair set of your own", open=False):
        gr.Markdown(
            "Folder of a pair set on this machine (`pairs.parquet`, `images.npy`, `manifest.json`). Its features are "
            "kept beside it; 50,000 pairs take a minute or two on two cores."
        )
        with gr.Row(elem_id="measure-row"):
            folder = gr.Textbox(label="Folder", placeholder="path of a pair set", scale=3)
            convention = gr.Dropdown(
                CONVENTIONS, value="authors", label="Cosine distance: 1 − cos (authors) or half of it", scale=1
            )
            measure = gr.Button("Measure", variant="primary", scale=1)
        answer = gr.HTML()
    measured = gr.State([])
    outcome = gr.State((None, None, ""))  # of no study: whoever asks for it before anything is measured gets nothing
    shows.chosen(
        lambda: [{"url": url}, [], ""], outputs=[screen, measured, answer], queue=False, show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    quiet = {"api_visibility": "private"}
    measure.click(
        lambda: notice("Computing features and AD of every pair …", kind="working"),
        outputs=answer,
        queue=False,
        **quiet,
    ).then(
        lambda address, *values: _measure_on_screen(context, study_named(address), *values),
        inputs=[address, folder, convention, measured],
        outputs=outcome,
        concurrency_id=MODEL_WORK,
        concurrency_limit=1,
        preprocess=False,
        js=send_address(4),
        **quiet,
    ).then(
        # Minutes may have passed: what was measured belongs to the study that the page showed then.
        lambda address, found: _shown(context, url, study_named(address), *found),
        inputs=[address, outcome],
        outputs=[screen, measured, answer],
        queue=False,
        js=send_address(2),
        **quiet,
    )


def alignment_payload(opened: OpenStudy) -> dict[str, Any]:
    """What the browser draws: ``alignment.json``, the paper's Table 1, and what the models that were drawn with show.

    Raises:
        ManifestError: if the artefact is missing, changed, or not in this version's format.
    """
    payload = ALIGNMENT.checked(opened.result_json(SCORES, ALIGNMENT.name), f"Run `{opened.result_command(SCORES)}`.")
    sets = [_without_poison(entry) if _holds_none(entry) else entry for entry in payload["sets"]]
    return {**payload, "sets": sets, "paper": paper_table(1), **judged_pictures(opened)}


def _holds_none(entry: dict[str, Any]) -> bool:
    """Whether the arm is known to hold no poison, though nobody flagged its pairs one by one."""
    return entry["poisoned_concept_count"] == 0 and not entry["poison_recorded"] and entry["poisoned_pairs"] is None


def _without_poison(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry as if every pair were flagged as benign."""

    def benign(distribution: dict[str, Any]) -> dict[str, Any]:
        (group,) = distribution["groups"].values()
        return distribution | {"groups": {"benign": group}}

    distributions = {
        name: [benign(each) for each in found] if isinstance(found, list) else benign(found)
        for name, found in entry["distributions"].items()
    }
    counts = {"poisoned_pairs": 0, "benign_pairs": entry["pairs"], "unrecorded_pairs": 0}
    return entry | counts | {"poison_recorded": True, "distributions": distributions}


def judged_pictures(opened: OpenStudy) -> dict[str, Any]:
    """``top1``: arm to its model's top-1 on the nouns that are not targeted, with the interval over them, None of an
    evaluation of an earlier release; ``drawn``: how those pictures were drawn. Both are None where nothing was judged.
    """
    try:
        evaluation = opened.result_json(EVALUATION, EVALUATION_NAME)
    except ManifestError:
        return {"top1": None, "drawn": None}
    found = {model["name"]: model.get("accuracy", {}).get("unpoisoned") for model in evaluation["models"]}
    top1 = {
        name: {"mean": share["mean"], "over_concepts": share.get("over_concepts")}
        for name, share in found.items()
        if share
    }
    return {"top1": top1, "drawn": {**how_drawn(evaluation), "models": list(top1)}}


def measure_folder(opened: OpenStudy, models: ModelThread, folder: str, convention: str) -> dict[str, Any]:
    """A pair set's entry as in ``alignment.json``, measured now by the study's extractor; imports torch.

    Raises:
        ValueError: on an empty or wrong folder, an unknown convention, or no extractor to measure with; it names the
            folder as it was given.
    """
    given = (folder or "").strip()
    if not given:
        raise ValueError("No folder is given: write the path of a pair set.")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}: expected one of {', '.join(CONVENTIONS)}")
    path = Path(given)
    if given.startswith("~/"):  # the user's own home alone: whose others there are is nobody's business
        path = path.expanduser()
    if not _are_files(path / name for name in (MANIFEST_NAME, PAIRS_NAME, IMAGES_NAME)):
        raise ValueError(f"{given} is no pair set: expected pairs.parquet, images.npy and manifest.json in it.")
    check_extractor(opened.study)
    try:
        return models.do(lambda: _describe_folder(path, convention, opened.study))
    except (ValueError, OSError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise ValueError(opened.without_places(told.replace(str(path), given))) from error


def check_extractor(study: Study) -> None:
    """Refuse a study whose extractor cannot measure.

    Raises:
        ValueError: if it names none, it is not there, or it is not calibrated.
    """
    found = study.extractor
    if found.folder is None and (found.open_clip is None or found.weights is None):
        raise ValueError(f"{study.name} has no extractor: AD needs the universal extractor that a study names.")
    place = found.folder or found.weights
    if not place.exists():
        raise ValueError(f"{place} is missing: AD needs the universal extractor.")
    if found.folder is None and found.feature_range is None:
        raise ValueError(f"The extractor of {study.name} is not calibrated: expected feature_range in study.toml.")


def _are_files(paths: Iterable[Path]) -> bool:
    """Whether all are regular files, which alone are never waited for; no for a path that cannot be one."""
    try:
        return all(path.is_file() for path in paths)
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _describe_folder(path: Path, convention: str, study: Study) -> dict[str, Any]:
    from explorer.alignment.pair_sets import measure

    pair_set = PairSet.load(path)
    split = "train" if len(pair_set.training_rows) else None  # a set of held-out pairs alone is measured whole
    measured = measure(pair_set, load_extractor(study.extractor), convention=convention, split=split)
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


def _study_sets(opened: OpenStudy) -> list[dict[str, Any]]:
    try:
        return alignment_payload(opened)["sets"]
    except ManifestError:  # the viewer shows why
        return []


def _measure_on_screen(
    context: AppContext, slug: str, folder: str, convention: str, earlier: list[dict[str, Any]]
) -> tuple[str, list[dict[str, Any]] | None, str]:
    """What addresses call the study, the sets measured so far (None if no new one is), and a message."""
    opened = context.studies[0]
    try:
        opened = context.study(slug)
        entry = measure_folder(opened, context.models, folder, convention)
    except Exception as error:  # whatever it is, the page must not go on saying that it works
        if is_disk_full(error):
            error = OSError("the disk is full, where the set lies: free some space and measure again")
        told = opened.in_words(error)
        if not is_told(error):
            logging.getLogger(__name__).exception("A pair set could not be measured")
        return slug, None, notice(told, kind="error", title="Not measured.")
    entry["name"] = name_beside(entry, [*_study_sets(opened), *earlier])
    measured = [*(other for other in earlier if other["name"] != entry["name"]), entry]
    difficulty = entry["alignment_difficulty"]
    words = (
        f"{entry['name']}: AD {difficulty['ad']:.4f} (feature {difficulty['feature_ad']:.4f}, structure "
        f"{difficulty['structure_ad']:.4f}) over {difficulty['n']:,} pairs. It is now among the sets above."
    )
    return slug, measured, notice(words, kind="done", title="Measured.")


def _shown(
    context: AppContext, url: str, slug: str, measured_of: str | None, measured: list[dict[str, Any]] | None, told: str
) -> list[Any]:
    """The viewer's new value, the sets measured so far and the message, unless the page shows another study by now."""
    if slug != measured_of:
        return [gr.skip()] * 3
    if measured is None:
        return [gr.skip(), gr.skip(), told]
    return [{"url": url, "study": context.study(slug).slug, "measured": measured}, measured, told]
