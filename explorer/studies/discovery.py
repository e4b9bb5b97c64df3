"""``explorer study new``: from checkpoints and pairs to a study's arms, without asking what can be found out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from explorer.checkpoints.registry import Checkpoint, scan_checkpoints
from explorer.checkpoints.weights_hash import weights_hash
from explorer.core.new_folder import check_new_folder
from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.core.progress import OnProgress, counted, unheard
from explorer.core.unique_names import unique_names
from explorer.pairs.concept_list import POOL, TEMPLATE, ConceptList
from explorer.studies.arms import arm_poison, known_poison
from explorer.studies.captions import concepts_in
from explorer.studies.concepts import with_poisoned
from explorer.studies.pairs_found import FoundPairs, find_pairs, paths_named
from explorer.studies.results import command_line
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import CONCEPTS_NAME, STUDY_NAME, Arm, Study

CONTROL_NAMES = ("benign", "control", "clean")
"""What a control is called, where several arms are recorded as unpoisoned."""
NO_POISON_WRITTEN = 'poison = { kind = "none" }'
POISON_WRITTEN = 'poison = { kind = "dirty-label", concepts = ["dog", "hat"] }'
"""Two examples of what a person writes by hand."""


@dataclass(frozen=True, kw_only=True)
class NewStudy:
    """A study that was written, and how it came about."""

    study: Study
    """As it was written."""
    assumed: tuple[str, ...]
    """What was found or decided, a sentence each."""
    left_open: tuple[str, ...]
    """What nobody recorded, and where to write it."""


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What a study is to be made of."""

    folder: Path
    """New folder for the study."""
    checkpoints: tuple[str, ...] = ()
    """Paths or globs of checkpoints, or of folders that hold some."""
    pairs: tuple[str, ...] = ()
    """Paths or globs of pair sets, embedding stores, folders of such, or sources that ``explorer import`` reads."""
    extractor: ExtractorSpec = field(default_factory=ExtractorSpec)
    """The universal extractor, where there is one."""
    concepts: Path | None = None
    """CSV file with the columns concept, group and phrase; None writes the nouns of the captions."""
    name: str | None = None
    """Of the study; None for the folder's."""
    control: str | None = None
    """Arm that is known to be the benign control: unpoisoned, unless poison is recorded of it. None finds it out."""


def new_study(request: StudyRequest, on_progress: OnProgress = unheard) -> NewStudy:
    """Write ``study.toml`` and ``concepts.csv`` into a new folder.

    A checkpoint's pairs are those whose data hash its manifest gives, else those whose folder has its name. Poison is
    what checkpoints and pair sets record. The control is the arm that is recorded as unpoisoned; of several the one
    called ``benign``, ``control`` or ``clean``, else the first.

    Raises:
        FileNotFoundError: naming a path or glob that matches nothing.
        ValueError: if the folder is a study or holds other things, nothing usable was found, no arm has the control's
            name, or the list of concepts is none.
    """
    folder = request.folder.resolve()
    if (folder / STUDY_NAME).is_file():
        raise ValueError(f"{folder} is a study already: choose a new folder, or edit its {STUDY_NAME}")
    check_new_folder(folder)
    assumed: list[str] = []
    left_open: list[str] = []
    checkpoints = _find_checkpoints(request.checkpoints, assumed, left_open)
    pairs, told = find_pairs(list(request.pairs))
    assumed += told
    arms = _arms(checkpoints, pairs, assumed, left_open)
    if not arms:
        raise ValueError("found neither checkpoints nor pairs: expected some with --checkpoint or --pairs")
    _tell_equal_weights(checkpoints, assumed, on_progress)
    arms = _with_control(arms, request.control, assumed, left_open)
    left_open += _unrecorded_poison(arms)
    left_open += _what_extractor_lacks(request.extractor, request.folder)
    study = Study(
        folder=folder, name=request.name or folder.name, extractor=request.extractor, arms=tuple(arms)
    )  # fmt: skip
    concepts = _concepts(request.concepts, study, assumed, left_open, on_progress)
    study.write()
    if concepts is not None:
        concepts.write(folder / CONCEPTS_NAME)
    return NewStudy(study=study, assumed=tuple(assumed), left_open=tuple(left_open))


def _find_checkpoints(patterns: tuple[str, ...], assumed: list[str], left_open: list[str]) -> list[Checkpoint]:
    """Usable ones, each once, in the order of C_P; the others are told with the reason."""
    found: dict[Path, Checkpoint] = {}
    for pattern in patterns:
        if not (matches := paths_named(pattern)):
            raise FileNotFoundError(f"{pattern} names nothing: expected checkpoints, or folders that hold some")
        for path in matches:
            place = path.resolve()
            inside = scan_checkpoints(place if place.is_dir() else place.parent)
            found |= {each.folder: each for each in inside if place.is_dir() or each.folder == place}
    usable = [each for each in found.values() if each.problem is None]
    left_open += [
        f"{each.folder} is left out: {each.problem}; once that is mended, make the study anew or add an arm by hand"
        for each in found.values()
        if each.problem is not None
    ]
    starts = [each for each in usable if each.config.get("start", "unknown") is None]
    if len(starts) < len(usable):  # the others were fine-tuned from it and are compared with one another
        assumed += [f"{each.folder} is left out: it was trained from scratch, the others were not" for each in starts]
        usable = [each for each in usable if each not in starts]
    return sorted(usable, key=lambda each: each.poison.order)


def _arms(
    checkpoints: list[Checkpoint], pairs: list[FoundPairs], assumed: list[str], left_open: list[str]
) -> list[Arm]:
    found = [(each, *_pairs_of(each, pairs)) for each in checkpoints]
    taken = {own.path for _, own, _ in found if own is not None}
    why = "none that can be used names their data hash or has their name" if checkpoints else "none was given"
    found += [(None, each, why) for each in pairs if each.path not in taken]
    names = unique_names([_called(checkpoint, own) for checkpoint, own, _ in found])
    arms = []
    for name, (checkpoint, own, why) in zip(names, found, strict=True):
        if own is None:
            left_open.append(f"arm {name} has no pairs: {why}")
        elif checkpoint is None:
            left_open.append(f"arm {name} has no checkpoint: {why}")
        else:
            assumed.append(f"arm {name} is taken to be trained on {own.path}: {why}")
        arm = Arm(
            name=name, checkpoint=None if checkpoint is None else checkpoint.folder,
            pairs=None if own is None else own.path,
        )  # fmt: skip
        arms.append(_with_flagged_poison(arm, checkpoint, own))
    return arms


def _pairs_of(checkpoint: Checkpoint, pairs: list[FoundPairs]) -> tuple[FoundPairs | None, str]:
    """The pairs that a checkpoint was trained on, and by what they were known; None and why not."""
    expected = checkpoint.manifest.get("data_hash")
    sets = [found for found in pairs if found.pair_set is not None]
    known = [found for found in sets if isinstance(expected, str) and found.pair_set.is_known_as(expected)]
    if known:
        return known[0], "its manifest gives their data hash"
    named = [found for found in pairs if found.name == checkpoint.folder.stem]
    if len(named) > 1:
        return None, f"{named[0].path} and {named[1].path} both have its name"
    if not named:
        return None, "none has the data hash in its manifest, or its name"
    if isinstance(expected, str) and named[0] in sets:
        return None, f"{named[0].path} has its name, but not the data hash that its manifest gives"
    return named[0], "they have its name"


def _with_flagged_poison(arm: Arm, checkpoint: Checkpoint | None, pairs: FoundPairs | None) -> Arm:
    """With what the flags of a pair set say of its poison, where no manifest says it."""
    if not arm_poison(arm, checkpoint).recorded and pairs is not None and pairs.pair_set is not None:
        return replace(arm, poison=pairs.pair_set.poison)
    return arm


def _called(checkpoint: Checkpoint | None, pairs: FoundPairs | None) -> Path:
    """A path whose last part an arm is called by: of its checkpoint, else of its pairs."""
    if checkpoint is not None:
        own = checkpoint.folder
        return own.with_name(own.stem) if own.is_file() else own
    path = Path(pairs.path)
    around = path.parent if pairs.name in (path.name, path.stem) else path.parent.parent  # shards have their folder's
    return around / pairs.name


def _tell_equal_weights(checkpoints: list[Checkpoint], assumed: list[str], on_progress: OnProgress) -> None:
    """Checkpoints with one content are one model: that may be meant, and is told."""
    sizes = Counter((each.size_bytes, each.base) for each in checkpoints)
    alike = [each for each in checkpoints if sizes[each.size_bytes, each.base] > 1]
    hashes: dict[tuple[str, Path | None], list[str]] = {}
    for each in counted(alike, on_progress, "comparing weights", "checkpoint"):
        hashes.setdefault((each.hash or weights_hash(each), each.base), []).append(str(each.folder))
    assumed += [
        f"equal weights, which are one model: {' and '.join(same)}" for same in hashes.values() if len(same) > 1
    ]


def _with_control(arms: list[Arm], known: str | None, assumed: list[str], left_open: list[str]) -> list[Arm]:
    records = {arm.name: known_poison(arm) for arm in arms}
    if known is not None:
        return _with_known_control(arms, known, records, assumed)
    clean = [arm for arm in arms if records[arm.name].poisoned is False]
    candidates = [arm for arm in clean if arm.checkpoint is not None] or clean
    if not candidates:
        left_open.append(
            f"no arm is recorded as unpoisoned: write control = true into the benign one's table in {STUDY_NAME}"
        )
        return arms
    called = [arm for arm in candidates if any(word in arm.name.casefold() for word in CONTROL_NAMES)]
    chosen = (called or candidates)[0]
    others = [arm.name for arm in candidates if arm is not chosen]
    beside = f"; {', '.join(others)} are recorded as unpoisoned, too" if others else ""
    assumed.append(f"arm {chosen.name} is the benign control{beside}")
    return [replace(arm, control=arm is chosen) for arm in arms]


def _with_known_control(arms: list[Arm], known: str, records: dict[str, PoisonRecord], assumed: list[str]) -> list[Arm]:
    if known not in records:
        raise ValueError(f"control is {known!r}: expected one of the arms {', '.join(records)}")
    unwritten = not records[known].recorded
    beside = ", though it is recorded as poisoned" if records[known].poisoned else ""
    assumed.append(f"arm {known} is the benign control, as was said{beside}")
    return [
        replace(arm, control=arm.name == known, poison=NO_POISON if unwritten and arm.name == known else arm.poison)
        for arm in arms
    ]


def _unrecorded_poison(arms: list[Arm]) -> list[str]:
    unknown = [arm.name for arm in arms if not known_poison(arm).recorded]
    if not unknown:
        return []
    return [
        f"poison is recorded of neither model nor pairs of {', '.join(unknown)}: where it is known, write into the "
        f"arm's table in {STUDY_NAME}, as an example, {NO_POISON_WRITTEN} or {POISON_WRITTEN}"
    ]


def _what_extractor_lacks(extractor: ExtractorSpec, folder: Path) -> list[str]:
    if extractor == ExtractorSpec():
        return [f"no universal extractor: without one in {STUDY_NAME} there are no scores, graphs or evaluation"]
    if extractor.open_clip is not None and extractor.feature_range is None:
        return [
            f"the extractor has no feature range, which scores need: `{command_line('calibrate', folder)}` finds it on "
            "the control's pairs"
        ]
    return []


def _given_concepts(path: Path, study: Study, assumed: list[str], left_open: list[str]) -> ConceptList:
    """The list as it is: who wrote it chose what is worth a picture, and its groups."""
    listed = ConceptList.read(path, TEMPLATE)
    poisoned = list(dict.fromkeys(name for arm in study.arms for name in known_poison(arm).names))
    if outside := [name for name in poisoned if name in listed.ranks and name not in listed.of_group(POOL)]:
        assumed.append(
            f"groups are those of {path}, where poisoned concepts stand outside of the pool: {', '.join(outside)}; "
            "they count as poisoned all the same"
        )
    if missing := [name for name in poisoned if name not in listed.ranks]:
        left_open.append(f"poisoned concepts that {path} does not name, so that no model is asked for them: "
                         f"{', '.join(missing)}; add them to {CONCEPTS_NAME} where they are wanted")  # fmt: skip
    return listed


def _concepts(
    given: Path | None, study: Study, assumed: list[str], left_open: list[str], on_progress: OnProgress
) -> ConceptList | None:
    """The list as given, or of the captions of the control's pairs; of all arms' where the control has none."""
    if given is not None:
        return _given_concepts(given, study, assumed, left_open)
    with_pairs = [arm for arm in study.arms if arm.pairs is not None]
    chosen = next((arm for arm in with_pairs if arm.control), with_pairs[0] if with_pairs else None)
    if chosen is None:
        left_open.append(f"no concepts: write {CONCEPTS_NAME} with the columns concept, group and phrase")
        return None
    try:
        found, origin = concepts_in(chosen, on_progress)
    except ValueError as error:
        left_open.append(f"no concepts: {error}")
        return None
    concepts, added = with_poisoned(found, (known_poison(arm) for arm in study.arms))
    assumed.append(f"{CONCEPTS_NAME} holds {len(concepts.names)} concepts: {origin}; edit it as you need")
    if added:
        assumed.append(f"poisoned concepts that these captions do not name, added to the pool: {', '.join(added)}")
    return concepts
