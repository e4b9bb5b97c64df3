"""``explorer poison | poison-clean-label | mislabel | relabel | matched-benign | benign-remainder |
fewer-benign``: poisoned sets, and their controls."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from explorer.checkpoints.pipelines import load_pipeline
from explorer.cli.application import AsJson, emit
from explorer.cli.extractor_options import ExtractorChoice, WithoutRange
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Spelling, command
from explorer.core.bounded_files import load_json
from explorer.core.provenance import ROOT, write_json
from explorer.pairs.concept_list import ConceptList
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.benign_pairs import benign_remainder, fewer_benign
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.poisoning.matched_benign import MatchedBenign
from explorer.poisoning.mislabelled import MislabelledPairs
from explorer.poisoning.perturbation import Perturbation
from explorer.poisoning.relabelled import RelabelledClasses
from explorer.poisoning.target_choice import TargetSelection

if TYPE_CHECKING:
    from explorer.poisoning.attack import Attack
    from explorer.poisoning.target_pictures import TargetPictures

BENIGN_MODEL = ROOT / "checkpoints" / "iconworld" / "benign"


@dataclass(frozen=True, kw_only=True)
class DirtyLabelOptions:
    """How a user spells a dirty-label poison."""

    pairs_per_concept: int
    """m: poison pairs of each."""
    concepts: int | None = None
    """C_P: concepts to poison, drawn from the frequent ones."""
    target: Annotated[list[str] | None, typer.Option()] = None
    """P=T, a concept and its target, in place of --concepts."""
    targets: Path | None = None
    """JSON file that `select-targets` wrote: its concepts and targets, in place of --concepts."""
    shared_target: str | None = None
    """One target for every drawn concept."""
    shuffled: bool = False
    """Every poison pair draws a target of its own."""
    captions: Literal["mentioning", "main", "pool"] = "mentioning"
    """Which captions of p: that mention it, that mention it first, or that mention no concept outside of the pool."""
    spare: Annotated[list[str] | None, typer.Option(metavar="NOUN")] = None
    """A concept whose benign pairs all stay; may be repeated."""
    pool_ranks: str | None = None
    """FIRST-LAST: frequency ranks of the pool, as 1501-2000. Default: the frequent ones."""
    seed: int = 0
    """Orders the pool, draws targets and pairs."""

    def attack(self) -> DirtyLabelPoison:
        """The attack.

        Raises:
            ValueError: naming what is not spelled as it should be.
        """
        if unclear := [pair for pair in self.target or () if pair.count("=") != 1]:
            raise ValueError(f"--target is {unclear[0]!r}: expected P=T, two concepts")
        given = [pair.split("=")[0] for pair in self.target or ()]
        if twice := [p for p in given if given.count(p) > 1]:
            raise ValueError(f"--target names {twice[0]!r} {given.count(twice[0])} times: expected one target of each")
        if self.pool_ranks is not None and not re.fullmatch(r"\d+-\d+", self.pool_ranks):
            raise ValueError(f"--pool-ranks is {self.pool_ranks!r}: expected FIRST-LAST, as 1501-2000")
        if self.target and self.targets is not None:
            raise ValueError("--target and --targets are given: expected one of them")
        targets = dict(pair.split("=") for pair in self.target) if self.target else None
        if self.targets is not None:
            targets = read_targets(self.targets)
        return DirtyLabelPoison(
            concept_count=self.concepts, targets=targets,
            shared_target=self.shared_target, shuffled=self.shuffled, captions=self.captions,
            pairs_per_concept=self.pairs_per_concept, seed=self.seed, spared=tuple(self.spare or ()),
            pool_ranks=tuple(map(int, self.pool_ranks.split("-"))) if self.pool_ranks else None,
        )  # fmt: skip


def read_targets(path: Path) -> dict[str, str]:
    """``{p: t}`` of a file that ``select-targets`` wrote.

    Raises:
        ValueError: if it holds none.
    """
    try:
        found = load_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    targets = found.get("targets") if isinstance(found, dict) else None
    if not isinstance(targets, dict) or not targets or not all(isinstance(t, str) for t in targets.values()):
        raise ValueError(f"{path} holds no targets: expected what `explorer select-targets` writes")
    return targets


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Where the pictures of targets come from."""

    checkpoint: Path = BENIGN_MODEL
    """Whose autoencoder is to be misled; a benign model, which draws the targets."""
    target_pictures: Path | None = None
    """Folder with a picture T.png of each target, in place of drawn ones; further ones are T-1.png and so on."""
    pictures_of_each: Annotated[int, typer.Option(min=1)] = 1
    """Pictures of each target; every poison picture is perturbed towards the nearest one."""
    drawing_steps: Annotated[int, typer.Option(min=1)] = 50
    """Denoising steps of a drawn target."""
    guidance_scale: float = 7.5
    """Guidance scale of a drawn target."""
    device: str = "cpu"
    """Torch device."""
    precision: str = "fp32"
    """fp32, fp16 or bf16; half precision is for a GPU."""

    def source(self, pipeline: Any, benign: PairSet, seed: int, listed: ConceptList | None) -> TargetPictures:
        """Given pictures, or those that the model draws from "a photo of t", all from the noise of one seed."""
        from explorer.poisoning.target_pictures import given_pictures
        from explorer.scenarios.clean_label_sets import drawn_targets

        if self.target_pictures is not None:
            return given_pictures(self.target_pictures, self.pictures_of_each)
        return drawn_targets(self.checkpoint, pipeline, benign, steps=self.drawing_steps,
                             guidance_scale=self.guidance_scale, seed=seed, of_each=self.pictures_of_each,
                             listed=listed)  # fmt: skip


Benign = Annotated[Path, typer.Argument(help="Pair set: IconWorld's, or imported with --concepts.")]
KnownBenign = Annotated[
    bool, typer.Option("--known-benign", help="You know that BENIGN holds no poison, though nobody recorded it.")
]


@command("poison")
def poison(
    benign: Benign,
    folder: Annotated[Path, typer.Argument(help="New folder for the poisoned set.")],
    options: DirtyLabelOptions,
    known_benign: KnownBenign = False,
    as_json: AsJson = False,
) -> None:
    """Poison a pair set with dirty labels: real captions of p, pictures of t."""
    _apply(options.attack(), benign, folder, known_benign, as_json)


@command("select-targets")
def select_targets(
    benign: Benign,
    file: Annotated[Path, typer.Argument(help="New JSON file of targets, for poison --targets.")],
    concepts: Annotated[
        int,
        typer.Option(help="C_P: concepts to poison, those that poison draws with this seed, m and ranks of the pool."),
    ],
    selection: TargetSelection,
    extractor: ExtractorChoice,
    pairs_per_concept: Annotated[
        int,
        typer.Option(
            help="m, as poison will be given it: outside of IconWorld it draws from the concepts that are the main one "
            "of at least m pairs."
        ),
    ] = 1,
    pool_ranks: Annotated[str | None, typer.Option(help="As of poison.")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose a target for each poisoned concept: what raises AD most, or is hardest to see, at a given alignment."""
    from explorer.poisoning.selected_targets import select_targets as select

    if file.exists():
        raise ValueError(f"{file} is there already: expected a new file")
    attack = DirtyLabelOptions(
        pairs_per_concept=pairs_per_concept, concepts=concepts, seed=selection.seed, pool_ranks=pool_ranks
    ).attack()
    pairs, chosen = PairSet.load(benign), extractor.load()
    found = select(attack, pairs, chosen, selection, show_progress())
    report = {**found, "selection": asdict(selection), "extractor": chosen.identity, "benign": pairs.data_hash}
    write_json(file, report)
    emit(report, as_json)


@command("poison-clean-label")
def poison_clean_label(
    benign: Benign,
    folder: Annotated[Path, typer.Argument(help="New folder for the poisoned set; the same one to go on.")],
    options: DirtyLabelOptions,
    perturbation: Perturbation,
    targets: TargetOptions,
    extractor: WithoutRange,
    least_score: Annotated[
        float | None,
        typer.Option(help="Cosine with a photo of P that a picture must reach; default: the median of P's captions."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures perturbed at once; default: 32, fewer of large ones.")
    ] = None,
    concept_list: Annotated[
        Path | None, typer.Option(help="CSV file with the columns concept and phrase: what stands in prompts.")
    ] = None,
    known_benign: KnownBenign = False,
    as_json: AsJson = False,
) -> None:
    """Poison a pair set with clean labels: true pairs of p, their pictures perturbed towards t. A run that was cut off
    goes on."""
    from explorer.poisoning.candidates import check_least_score
    from explorer.poisoning.clean_label import CleanLabelPoison, mean_figures

    check_least_score(least_score)
    attack, pairs = options.attack(), PairSet.load(benign)
    listed = None if concept_list is None else ConceptList.read(concept_list)
    pipeline = load_pipeline(targets.checkpoint, targets.device, targets.precision)
    clean_label = CleanLabelPoison(
        attack=attack, perturbation=perturbation, autoencoder=pipeline.vae,
        extractor=extractor.load(targets.device, needs_range=False),
        target_pictures=targets.source(pipeline, pairs, attack.seed, listed), kept=folder / ".perturbed",
        least_score=least_score, listed=listed, batch_size=batch_size, on_progress=show_progress(),
    )  # fmt: skip
    made = clean_label.apply(pairs, folder, known_benign=known_benign)
    _emit_set(made, folder, mean_figures(folder), as_json)


@command("perturbation-sheet")
def perturbation_sheet_command(
    benign: Annotated[Path, typer.Argument(help="Pair set that was poisoned.")],
    picture: Annotated[Path, typer.Argument(help="New file, PNG or WebP.")],
    poisoned: Annotated[list[Path], typer.Argument(metavar="SET...", help="Clean-label sets of it, of one seed.")],
    pairs: Annotated[int, typer.Option(min=1, help="Pairs to show.")] = 8,
    as_json: AsJson = False,
) -> None:
    """What the eye sees: the same pictures before, and after each clean-label attack, with how far each came."""
    from explorer.poisoning.perturbation_sheet import perturbation_sheet

    if picture.suffix.lower() not in (".png", ".webp") or picture.exists():
        raise ValueError(f"{picture} is there already, or neither .png nor .webp: expected a new file of these")
    sheet = perturbation_sheet(PairSet.load(benign), [PairSet.load(each) for each in poisoned], pairs)
    sheet.save(picture)
    emit({"picture": str(picture), "width": sheet.width, "height": sheet.height}, as_json)


@command("mislabel")
def mislabel(
    benign: Benign,
    folder: Annotated[Path, typer.Argument(help="New folder for the set with mislabelled pairs.")],
    attack: Annotated[
        MislabelledPairs, Spelling(concept_count=typer.Option("--concepts"), pairs_per_concept=typer.Option(...))
    ],
    known_benign: KnownBenign = False,
    as_json: AsJson = False,
) -> None:
    """Add mislabelled pairs to classes, real captions of p on pictures of t; every benign pair stays."""
    _apply(attack, benign, folder, known_benign, as_json)


@command("relabel")
def relabel(
    benign: Benign,
    folder: Annotated[Path, typer.Argument(help="New folder for the relabelled set.")],
    attack: Annotated[RelabelledClasses, Spelling(concept_count=typer.Option("--concepts"))],
    known_benign: KnownBenign = False,
    as_json: AsJson = False,
) -> None:
    """Mislabel every pair of some classes: all captions that name p first show t. The set keeps its size."""
    _apply(attack, benign, folder, known_benign, as_json)


@command("matched-benign")
def matched_benign(
    benign: Benign,
    folder: Annotated[Path, typer.Argument(help="New folder for the matched set.")],
    keep: Annotated[Literal["captions", "pictures"], typer.Option(help="What of the poison stays.")],
    options: DirtyLabelOptions,
    known_benign: KnownBenign = False,
    as_json: AsJson = False,
) -> None:
    """A control for a poison: its captions with right pictures, or its pictures with right captions; else as poison."""
    _apply(MatchedBenign(attack=options.attack(), keep=keep), benign, folder, known_benign, as_json)


@command("benign-remainder")
def remainder(
    poisoned: Annotated[Path, typer.Argument(help="Poisoned pair set, whose every pair is recorded.")],
    folder: Annotated[Path, typer.Argument(help="New folder for its benign pairs.")],
    as_json: AsJson = False,
) -> None:
    """The benign pairs of a poisoned set alone: a control for what the poison leaves, fewer clean pairs."""
    made = benign_remainder(PairSet.load(poisoned), folder)
    emit({"folder": str(folder), **made.manifest["counts"], "data_hash": made.data_hash}, as_json)


@command("fewer-benign")
def fewer(
    pair_set: Annotated[Path, typer.Argument(help="Pair set, poisoned or not, whose every pair is recorded.")],
    folder: Annotated[Path, typer.Argument(help="New folder for the smaller set.")],
    pairs: Annotated[int, typer.Option(help="Benign training pairs that stay beside the poison.")],
    seed: Annotated[
        int, typer.Option(min=0, help="Draws them; sets of one source keep the same ones as far as these are benign.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """A set's poison beside fewer benign pairs, so that it is a larger share; of a set without poison a smaller one."""
    _emit_set(fewer_benign(PairSet.load(pair_set), folder, benign_pairs=pairs, seed=seed), folder, {}, as_json)


def _apply(attack: Attack, benign: Path, folder: Path, known_benign: bool, as_json: bool) -> None:
    _emit_set(attack.apply(PairSet.load(benign), folder, known_benign=known_benign), folder, {}, as_json)


def _emit_set(made: PairSet, folder: Path, figures: dict[str, float], as_json: bool) -> None:
    poison = made.poison
    emit({"folder": str(folder), **made.manifest["counts"], "data_hash": made.data_hash, "targets": poison.targets,
          "parameters": poison.parameters, **figures}, as_json)  # fmt: skip
