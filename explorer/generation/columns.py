"""One column of a comparison: picture, quantised attention and numbers, kept on disk and read without torch.

A live generation and a stored one become the same ``ComparisonColumn``, so what the page shows at start is what
it shows after a click. Stored, a column is three files: PNG, safetensors (uint8 maps, fp32 scales, latents of some
steps), JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from explorer.checkpoints.pipelines import load_pipeline
from explorer.core.poison_record import PoisonRecord
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import write_json
from explorer.generation.generate import compare
from explorer.generation.payload_formats import COMPARISON
from explorer.generation.step_maps import (
    KeptLatents,
    StepMaps,
    WordSensitivity,
    guidance_steps,
    read_sensitivity,
    sensitivity_tensors,
)

if TYPE_CHECKING:
    from explorer.attention.maps import AttentionCube
    from explorer.attention.words import PromptWords
    from explorer.checkpoints.registry import Checkpoint
    from explorer.generation.generate import Generation, GenerationRequest
    from explorer.generation.given_pictures import GivenPicture

MAX_MAP_BYTES = 12 << 20
"""A resolution's maps beyond this are kept as the mean over heads, and say so."""

MADE_AGAIN = "Remove its folder, then: `python -m explorer study run STUDY comparison`."


class Judge(Protocol):
    """Whatever tells what a picture shows, such as :class:`~explorer.evaluation.judge.ConceptJudge`."""

    def judge(self, image: np.ndarray, prompt: str) -> dict[str, Any]:
        """Numbers and names of a picture uint8 ``[H, W, 3]`` that should show ``prompt``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MapStack:
    """All maps of one resolution in 8 bits; index 0 of steps, layers and heads is the mean over that axis."""

    values: np.ndarray
    """uint8 ``[steps + 1, layers + 1, heads + 1, W, h, w]``; one head entry where only their mean is kept."""
    scales: np.ndarray
    """fp32 ``[steps + 1, layers + 1, heads + 1, W]``, probability per unit of ``values``."""
    layers: tuple[str, ...]
    """Module names of the layers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonColumn:
    """What one model made of a prompt."""

    model: str
    """Checkpoint name."""
    poison: PoisonRecord
    """What is known of the poison that the model was trained on."""
    settings: dict[str, Any]
    """``prompt``, ``seed``, ``steps``, ``guidance_scale``, ``negative_prompt``."""
    image: np.ndarray
    """uint8 ``[H, W, 3]``."""
    words: tuple[str, ...]
    """Names of the ``W`` map columns: the prompt's words, then start, then end token with padding."""
    concept_words: tuple[int, ...]
    """Indices of the words that get a row of their own."""
    stacks: tuple[MapStack, ...]
    """Attention maps by resolution, the one the numbers are taken from first."""
    guidance: StepMaps | None
    """Guidance maps: index 0 is the mean over steps, index ``i + 1`` step ``i``. None where there is no guidance."""
    no_guidance: str
    """Why there is none; empty where there is."""
    latents: KeptLatents
    """On which sensitivity is measured."""
    no_sensitivity: str
    """Why it cannot be; empty where it can."""
    sensitivity: Mapping[int, WordSensitivity] = field(default_factory=dict)
    """Of the words, by index, that were measured."""
    given: str = ""
    """What the picture is, where it was given and not drawn; steps are noise levels then."""
    mask: np.ndarray | None = None
    """bool ``[H, W]``: which of a given picture's pixels are the object; None where nobody knows."""
    numbers: dict[str, Any]
    """``scatter``, ``mass`` (by word index as text), ``overlap`` (or None), and the judge's where there is one."""
    seconds: float
    """Wall-clock time of the generation."""


def describe_generation(
    generation: Generation,
    checkpoint: Checkpoint,
    *,
    concepts: Sequence[str],
    judge: Judge | None = None,
    given: GivenPicture | None = None,
) -> ComparisonColumn:
    """Quantise the first image's maps and take its numbers (maps: 16x16 layers, mean over steps, layers and heads).

    Args:
        generation: made with capture.
        checkpoint: the model it was made with.
        concepts: what concepts are called in prompts; the words of those in the prompt get a row each, else the
            prompt's last word does.
        judge: adds CLIP similarity and the concept recognised.
        given: the picture that was shown, where none was drawn.

    Raises:
        ValueError: if the generation was made without capture.
    """
    from explorer.generation.sensitivity import kept_latents

    cube, steps = generation.cube, generation.steps
    if cube is None:
        raise ValueError("the generation holds no attention maps: expected one made with capture=True")
    request = generation.request
    rows = concept_word_indices(generation.words, concepts)
    numbers = attention_numbers(cube, rows)
    picture = generation.images[0]
    if judge is not None:
        numbers |= judge.judge(picture, request.prompt)
    first = cube.default_resolution
    resolutions = [first, *(size for size in cube.resolutions if size != first)]
    return ComparisonColumn(
        model=checkpoint.name,
        poison=checkpoint.poison,
        settings={
            "prompt": request.prompt,
            "seed": request.seed,
            "steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "negative_prompt": request.negative_prompt,
        },
        image=picture,
        words=tuple(cube.columns),
        concept_words=rows,
        stacks=tuple(_quantise(cube, size) for size in resolutions),
        guidance=None if steps.guidance is None else guidance_steps(steps.guidance),
        no_guidance=steps.no_guidance,
        latents=kept_latents(steps.trajectory),
        no_sensitivity=steps.no_sensitivity,
        numbers=numbers,
        seconds=generation.seconds,
        **({} if given is None else {"given": given.words, "mask": given.mask}),
    )


def compare_checkpoints(
    checkpoints: Sequence[Checkpoint],
    request: GenerationRequest,
    *,
    concepts: Sequence[str],
    judge: Judge | None = None,
    device: str = "cpu",
    precision: str | None = None,
    on_progress: OnProgress = unheard,
) -> list[ComparisonColumn]:
    """Load the checkpoints and make one column each of the same request, in order, with the sensitivity to the words
    that get a row.

    Args:
        concepts: as in :func:`describe_generation`.
        device: where the models are put.
        precision: as in :func:`~explorer.checkpoints.pipelines.load_pipeline`.

    Raises:
        ValueError: if a checkpoint cannot be loaded, or does not know a word of the prompt.
    """
    from explorer.generation.sensitivity import column_sensitivity

    shared: dict[Any, Any] = {}
    pipelines = {checkpoint.name: load_pipeline(checkpoint, device, precision, shared) for checkpoint in checkpoints}
    columns = []
    for checkpoint, generation in zip(checkpoints, compare(pipelines, request, on_progress=on_progress), strict=True):
        column = describe_generation(generation, checkpoint, concepts=concepts, judge=judge)
        pipeline = pipelines[checkpoint.name]
        words = () if column.no_sensitivity else column.concept_words
        measured = {word: column_sensitivity(pipeline, column, word) for word in words}
        columns.append(replace(column, sensitivity=measured))
    return columns


def concept_word_indices(words: PromptWords, concepts: Sequence[str]) -> tuple[int, ...]:
    """Positions of concepts, of one word or several, among a prompt's words; the last word's if it names none of
    them."""
    found = {index for concept in concepts for index in words.indices_of(concept)}
    return tuple(sorted(found)) or tuple(range(len(words.words)))[-1:]


def attention_numbers(cube: AttentionCube, rows: Sequence[int]) -> dict[str, Any]:
    """Scatter and mean mass of the words in ``rows``, and the mean cosine overlap between them (None for one word, or
    where a word is read nowhere)."""
    from explorer.attention.statistics import column_mass, cosine_overlap, scatter_where_read

    maps = cube.maps()
    masses = column_mass(maps)
    scatters = dict(zip(rows, scatter_where_read(maps[list(rows)]), strict=True))
    overlap = None
    if len(rows) > 1 and None not in scatters.values():
        cosines = cosine_overlap(maps[list(rows)])
        count = len(rows)
        overlap = float((cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1)))
    return {
        "scatter": {str(row): scatters[row] for row in rows},
        "mass": {str(row): float(masses[row]) for row in rows},
        "overlap": overlap,
    }


def write_comparison(folder: Path | str, columns: Sequence[ComparisonColumn]) -> list[str]:
    """Write columns to ``folder`` in order and return the names of the files written.

    Raises:
        ValueError: if two columns have the same model.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = [column.model.replace("/", "--") for column in columns]
    if len(set(names)) != len(names):
        raise ValueError(f"columns are of models {names}: expected different ones")
    written = []
    for name, column in zip(names, columns, strict=True):
        Image.fromarray(column.image).save(folder / f"{name}.png", optimize=True)
        tensors = _step_tensors(column)
        for number, stack in enumerate(column.stacks):
            tensors |= {f"values.{number}": stack.values, f"scales.{number}": stack.scales}
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / f"{name}.safetensors")
        write_json(folder / f"{name}.json", _description(column))
        written += [f"{name}.png", f"{name}.safetensors", f"{name}.json"]
    write_json(folder / COMPARISON.name, COMPARISON.written(columns=names))
    return [*written, COMPARISON.name]


def read_comparison(folder: Path | str) -> list[ComparisonColumn]:
    """Columns as written by :func:`write_comparison`, in order.

    Raises:
        ManifestError: if the format is of another version.
        FileNotFoundError: naming a missing file.
    """
    folder = Path(folder)
    index = COMPARISON.checked(json.loads((folder / COMPARISON.name).read_text(encoding="utf-8")), MADE_AGAIN)
    return [_read_column(folder, name) for name in index["columns"]]


def _quantise(cube: AttentionCube, resolution: tuple[int, int]) -> MapStack:
    groups = [group for group in cube.groups if group.resolution == resolution]
    layers = sum(len(group.layers) for group in groups)
    heads = groups[0].heads
    size = (cube.steps + 1) * (layers + 1) * (heads + 1) * len(cube.columns) * resolution[0] * resolution[1]
    every_head = size <= MAX_MAP_BYTES and all(group.heads == heads for group in groups)
    quantised = cube.quantised(resolution=resolution, heads=every_head)
    return MapStack(values=quantised.values, scales=quantised.scales, layers=quantised.layers)


def _step_tensors(column: ComparisonColumn) -> dict[str, np.ndarray]:
    latents = column.latents
    tensors = {
        "latents.samples": latents.samples, "latents.timesteps": latents.timesteps,
        "latents.steps": np.asarray(latents.steps, np.int64),
    }  # fmt: skip
    if column.guidance is not None:
        tensors |= {"guidance.values": column.guidance.values, "guidance.scales": column.guidance.scales}
    if column.mask is not None:
        tensors["mask"] = column.mask
    return tensors | sensitivity_tensors(column.sensitivity)


def _description(column: ComparisonColumn) -> dict[str, Any]:
    return {
        "model": column.model,
        "poison": column.poison.as_json(),
        "settings": column.settings,
        "words": list(column.words),
        "concept_words": list(column.concept_words),
        "layers": [list(stack.layers) for stack in column.stacks],
        "no_guidance": column.no_guidance,
        "no_sensitivity": column.no_sensitivity,
        "sensitivity": list(column.sensitivity),
        "numbers": column.numbers,
        "seconds": column.seconds,
        "given": column.given,
    }


def _read_column(folder: Path, name: str) -> ComparisonColumn:
    description = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / f"{name}.safetensors")
    stacks = tuple(
        MapStack(values=tensors[f"values.{number}"], scales=tensors[f"scales.{number}"], layers=tuple(layers))
        for number, layers in enumerate(description.pop("layers"))
    )
    guidance = None
    if not description["no_guidance"]:
        guidance = StepMaps(values=tensors["guidance.values"], scales=tensors["guidance.scales"])
    latents = KeptLatents(
        steps=tuple(tensors["latents.steps"].tolist()), samples=tensors["latents.samples"],
        timesteps=tensors["latents.timesteps"],
    )  # fmt: skip
    sensitivity = read_sensitivity(tensors, description.pop("sensitivity"))
    with Image.open(folder / f"{name}.png") as picture:
        image = np.asarray(picture.convert("RGB"))
    tuples = {key: tuple(description.pop(key)) for key in ("words", "concept_words")}
    poison = PoisonRecord.read(description.pop("poison"))
    return ComparisonColumn(
        image=image, stacks=stacks, guidance=guidance, latents=latents, sensitivity=sensitivity, poison=poison,
        mask=tensors.get("mask"), **tuples, **description,
    )  # fmt: skip
