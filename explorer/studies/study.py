"""A study: a folder with ``study.toml``, ``concepts.csv`` and ``results``, which a person can read, copy and publish.

Paths in ``study.toml`` are relative to the folder. Nothing heavy is imported here: the app reads studies at its start.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import tomlkit

from explorer.core.poison_record import NO_POISON, NOT_RECORDED, PoisonRecord
from explorer.core.provenance import replacing
from explorer.evaluation.config import EvaluationConfig
from explorer.generation.generate import GenerationRequest
from explorer.pairs.concept_list import TEMPLATE, ConceptList
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.sources.base import Fields, Reading, is_address
from explorer.studies.setting_kinds import check_settings
from explorer.studies.specs import LOCAL, AestheticsSpec, ClassifierSpec, ExtractorSpec, FiltersSpec, RetrainedSpec

STUDY_NAME, CONCEPTS_NAME, RESULTS_NAME = "study.toml", "concepts.csv", "results"
STUDIES = ("beside", "runs", "other_bases")
"""Settings that name folders of further studies."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One model and the pairs it was trained on; either may be missing."""

    name: str
    """Unique in the study; folders and columns are called by it."""
    checkpoint: Path | None = None
    """A pipeline, U-Net, single file or LoRA."""
    pairs: Path | str | None = None
    """A pair set of ours, an embedding store, or a source as ``explorer import`` reads; text is the address of one."""
    reading: Reading = field(default_factory=Reading)
    """How a source is read."""
    poison_fields: PoisonFields = field(default_factory=PoisonFields)
    """Fields of a source, or of a store's metadata, that say which pairs are poison."""
    control: bool = False
    """Whether this is the benign control."""
    poison: PoisonRecord = NOT_RECORDED
    """Written by hand where neither checkpoint nor pairs record it; what they record is not repeated here."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What ``study.toml`` says.

    Raises:
        ValueError: naming the setting that is not what it should be.
    """

    folder: Path
    name: str
    extractor: ExtractorSpec
    arms: tuple[Arm, ...]
    template: str = TEMPLATE
    """Of prompts, with ``{phrase}`` where the concept stands."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Pictures per concept; a seed's noise is the same for every concept and arm."""
    steps: int = 20
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Classifier-free guidance scale."""
    size: int | None = None
    """Pixels a side of the pictures; None for what the models were made for."""
    tau: float | None = None
    """CLIP similarity above which a picture shows what its prompt says; None for the control's ``tau_quantile``."""
    tau_quantile: float = 0.10
    """Of the control's CLIP similarities."""
    unrelated_distance: float | None = None
    """Text distance to the nearest poisoned concept above which one counts as unrelated; None for no such group."""
    loss_pairs: int = 0
    """Pairs of every arm, at most, whose denoising loss by the control is shown on Graphs: a sample for showing
    (:func:`~explorer.alignment.graph_sample.stratified_sample`); 0 for none."""
    shown_concept: str | None = None
    """What the comparison draws; None for a choice by the evaluation."""
    strip_rows: int = 12
    """Concepts of the film strip, at most, of the pool, and as many of those that no poison targets."""
    aesthetics: AestheticsSpec | None = None
    """Aesthetics head; None where the study has none."""
    classifier: ClassifierSpec | None = None
    """Classifier of pictures; None where the study has none."""
    beside: tuple[Path, ...] = ()
    """Further studies: what they measured stands beside the paper where this one measured nothing (`results`)."""
    runs: tuple[Path, ...] = ()
    """Further training runs of this study's recipe: folders of studies, or of an ``evaluation.json`` alone."""
    other_bases: tuple[Path, ...] = ()
    """Studies of the same poison on other bases of this study's world, which are none of the paper's."""
    recipe_tuned: bool = False
    """Whether the recipe was revised after what it gives on these concepts had been seen: then the study is no evidence
    of what it gives elsewhere."""
    filters: FiltersSpec = field(default_factory=FiltersSpec)
    """Further scores that pairs can be filtered by."""
    retrained: RetrainedSpec = field(default_factory=RetrainedSpec)
    """What models are asked that were trained again."""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"arms {', '.join(twice)} stand twice: expected each name once")
        if bad := [name for name in names if not is_file_name(name)]:
            raise ValueError(f"arm is called {bad[0]!r}: expected a name that a folder can have")
        if len(controls := [arm.name for arm in self.arms if arm.control]) > 1:
            raise ValueError(f"{', '.join(controls)} are controls: expected one at most")
        EvaluationConfig(seeds=self.seeds, tau=self.tau, tau_quantile=self.tau_quantile,
                         unrelated_distance=self.unrelated_distance)  # fmt: skip
        for setting, least in (("loss_pairs", 0), ("strip_rows", 1)):
            if type(value := getattr(self, setting)) is not int or value < least:
                raise ValueError(f"{setting} is {value!r}: expected a whole number from {least}")
        for setting in ("loss_arms", "losses_of"):
            if unknown := [name for name in getattr(self.filters, setting) if name not in names]:
                raise ValueError(f"{setting} of filters name {unknown[0]!r}: expected some of {', '.join(names)}")
        for seed in self.seeds:
            GenerationRequest(prompt=self.template, seed=seed, steps=self.steps, height=self.size, width=self.size,
                              guidance_scale=self.guidance_scale)  # fmt: skip
        for setting in STUDIES:
            if self.folder in (named := getattr(self, setting)):
                raise ValueError(f"{setting} names the study itself: expected others")
            if twice := sorted({place.name for place in named if named.count(place) > 1}):
                raise ValueError(f"{setting} names {', '.join(twice)} twice: expected each once")

    @property
    def control(self) -> Arm | None:
        """The benign control; None where the study names none."""
        return next((arm for arm in self.arms if arm.control), None)

    @property
    def results(self) -> Path:
        """The folder of the steps' results."""
        return self.folder / RESULTS_NAME

    def arm(self, name: str) -> Arm:
        """The arm called ``name``.

        Raises:
            ValueError: if there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ValueError(f"arm is {name!r}: expected one of {', '.join(arm.name for arm in self.arms)}")

    def concept_list(self) -> ConceptList:
        """The concepts in ``concepts.csv``.

        Raises:
            FileNotFoundError: without that file.
            ValueError: as :meth:`ConceptList.read`.
        """
        return ConceptList.read(self.folder / CONCEPTS_NAME, self.template)

    @staticmethod
    def load(folder: Path | str) -> Study:
        """From a folder with ``study.toml``.

        Raises:
            FileNotFoundError: if the folder has none.
            ValueError: naming the table or setting that is unknown or not what it should be.
        """
        folder = Path(folder).resolve()
        path = folder / STUDY_NAME
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: expected a study, which `explorer study new` makes")
        try:
            return _parse(tomllib.loads(path.read_text(encoding="utf-8")), folder)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def write(self) -> None:
        """Write ``study.toml`` anew."""
        document = tomlkit.document()
        for name, value in _as_tables(self).items():
            document[name] = value
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / STUDY_NAME) as temporary:
            temporary.write_text(tomlkit.dumps(document), encoding="utf-8")


PATHS = ("folder", "weights", "checkpoint", "pairs", "head", "class_names", "scores")
_ARM_FIELDS = tuple(each.name for each in fields(Arm))
_READ_FROM_TABLES = ("reading", "poison_fields", "poison")
_EXTRACTOR_FIELDS = tuple(each.name for each in fields(ExtractorSpec))
_SPECS = {"aesthetics": AestheticsSpec, "classifier": ClassifierSpec, "filters": FiltersSpec,
          "retrained": RetrainedSpec}  # fmt: skip
_TABLES = ("extractor", *_SPECS, "arm")
_OWN_FIELDS = tuple(each.name for each in fields(Study) if each.name not in ("folder", "arms", *_TABLES))


def _parse(found: dict[str, Any], folder: Path) -> Study:
    own = {name: value for name, value in found.items() if name not in _TABLES}
    own = _settings(own, Study, "the study", folder, _OWN_FIELDS)
    extractor = ExtractorSpec(**_settings(found.get("extractor", {}), ExtractorSpec, "extractor", folder))
    specs = {name: kind(**_settings(found[name], kind, name, folder)) for name, kind in _SPECS.items() if name in found}
    if not isinstance(tables := found.get("arm", []), list):
        raise ValueError("[arm] is one table: expected [[arm]], for each arm one")
    arms = tuple(_arm(table, f"arm {number}", folder) for number, table in enumerate(tables, start=1))
    for setting in STUDIES:
        own[setting] = tuple(_place(place, folder) for place in own.get(setting, ()))
    return Study(folder=folder, extractor=extractor, arms=arms, **specs, **own)


def _arm(found: dict[str, Any], where: str, folder: Path) -> Arm:
    settings = _settings(found, Arm, where, folder)
    read = {
        "reading": _reading(settings.get("reading", {}), f"reading of {where}"),
        "poison": PoisonRecord.read(settings.get("poison")),
        "poison_fields": _from_table(PoisonFields, settings.get("poison_fields", {}), f"poison_fields of {where}"),
    }
    return Arm(**settings | read)


def _reading(found: dict[str, Any], where: str) -> Reading:
    own = {name: value for name, value in found.items() if name != "fields"}
    table = _from_table(Fields, found.get("fields", {}), f"fields of the {where}")
    return replace(_from_table(Reading, own, where), fields=table)


def _from_table(kind: type, found: Any, where: str) -> Any:
    """A dataclass of texts from a table."""
    check_settings(found, kind, where, tuple(each.name for each in fields(kind)))
    return kind(**found)


def _settings(found: Any, kind: type, where: str, folder: Path, known: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Lists become tuples; paths start at the study's folder."""
    check_settings(found, kind, where, known or tuple(each.name for each in fields(kind)))
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    found = {name: _place(value, folder) if name in PATHS else value for name, value in settings.items()}
    if str(found.get("open_clip", "")).startswith(LOCAL):
        found["open_clip"] = f"{LOCAL}{_place(found['open_clip'].removeprefix(LOCAL), folder)}"
    return found


def _place(value: str, folder: Path) -> Path | str:
    if is_address(value):
        return value
    return Path(os.path.normpath(folder / value.removeprefix("file://")))


def _as_tables(study: Study) -> dict[str, Any]:
    def plain(holder: Any, names: tuple[str, ...]) -> dict[str, Any]:
        values = {name: getattr(holder, name) for name in names}
        return {name: _plain(value, study.folder) for name, value in values.items() if value is not None}

    arms = [plain(arm, tuple(name for name in _ARM_FIELDS if name not in _READ_FROM_TABLES)) for arm in study.arms]
    for table, arm in zip(arms, study.arms, strict=True):
        if not arm.control:
            del table["control"]
        for name in ("reading", "poison_fields"):
            if differing := _differing(getattr(arm, name)):
                table[name] = differing
        if arm.poison.recorded:
            table["poison"] = {"kind": "none"} if arm.poison == NO_POISON else _without_nulls(arm.poison.as_json())
    tables = {"extractor": plain(study.extractor, _EXTRACTOR_FIELDS)}
    for name, kind in _SPECS.items():
        if (spec := getattr(study, name)) is not None and spec not in (FiltersSpec(), RetrainedSpec()):
            tables[name] = plain(spec, tuple(each.name for each in fields(kind)))
    own = plain(study, _OWN_FIELDS)
    for setting in (*STUDIES, "recipe_tuned"):
        if not getattr(study, setting):
            del own[setting]
    return own | tables | {"arm": arms}


def _without_nulls(value: Any) -> Any:
    """TOML has no null: what an attack was not given, among its parameters, is absent."""
    if isinstance(value, dict):
        return {name: _without_nulls(said) for name, said in value.items() if said is not None}
    return value


def _differing(value: Any) -> dict[str, Any]:
    """The settings of a dataclass that are not its defaults."""
    found, usual = asdict(value), asdict(type(value)())
    if "fields" in found:
        found["fields"] = {name: said for name, said in found["fields"].items() if said is not None}
        usual["fields"] = {}
    return {name: said for name, said in found.items() if said != usual[name]}


def _plain(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return Path(os.path.relpath(value, folder)).as_posix()
    if isinstance(value, str) and value.startswith(LOCAL):
        return LOCAL + _plain(Path(value.removeprefix(LOCAL)), folder)
    return [_plain(each, folder) for each in value] if isinstance(value, tuple) else value


def is_file_name(name: str) -> bool:
    """Whether a file or folder can be called so, anywhere."""
    return bool(name) and name == Path(name).name and name not in (".", "..") and name.isprintable()
