"""Clean-label attacks of a scenario: its base draws the targets, and the base's autoencoder is misled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint
from explorer.checkpoints.weights_hash import hash_of_base, hash_of_model, weights_hash
from explorer.core.progress import OnProgress, unheard
from explorer.generation.batch import generate_pictures
from explorer.generation.generate import GenerationRequest
from explorer.poisoning.candidates import concepts_of
from explorer.poisoning.clean_label import CleanLabelPoison
from explorer.poisoning.target_pictures import TargetPictures
from explorer.studies.extractors import load_extractor
from explorer.studies.specs import ExtractorSpec

if TYPE_CHECKING:
    import numpy as np

    from explorer.pairs.concept_list import ConceptList
    from explorer.pairs.pair_set import PairSet
    from explorer.poisoning.dirty_label import DirtyLabelPoison
    from explorer.poisoning.perturbation import Perturbation


def drawn_targets(
    checkpoint: Path,
    pipeline: Any,
    benign: PairSet,
    *,
    steps: int,
    guidance_scale: float,
    seed: int,
    of_each: int = 1,
    listed: ConceptList | None = None,
) -> TargetPictures:
    """What ``pipeline``, the loaded ``checkpoint``, draws of "a photo of t", each from the noise of one seed, further
    pictures of each from the seeds after it; ``listed`` gives the concepts other prompts."""
    name, decides = checkpoint.resolve().name, {"steps": steps, "seed": seed, "guidance_scale": guidance_scale}

    def draw(concepts: list[str], number: int) -> np.ndarray:
        known = concepts_of(benign, concepts, listed)
        prompts = [known.prompt(concept) for concept in concepts]
        return generate_pictures(pipeline, GenerationRequest(prompt=prompts[0], **decides | {"seed": seed + number}),
                                 prompts, name)  # fmt: skip

    model = read_checkpoint(checkpoint)
    weights = hash_of_model(model, weights_hash(model), hash_of_base(model))
    drawn_by = {"model": name, "weights": weights, **decides}
    return TargetPictures(draw=draw, identity={"drawn_by": drawn_by}, of_each=of_each)


def clean_label(
    attacks: Mapping[str, DirtyLabelPoison], benign: PairSet, base: Path, extractor: ExtractorSpec,
    perturbation: Perturbation, kept_of: Callable[[str], Path], *, steps: int, guidance_scale: float,
    listed: ConceptList | None = None, device: str = "cpu", on_progress: OnProgress = unheard,
) -> dict[str, CleanLabelPoison]:  # fmt: skip
    """The clean-label counterpart of each attack: the same concepts, targets and numbers, in full precision.

    Args:
        base: a checkpoint that loads as a pipeline; with ``steps`` and ``guidance_scale`` it draws the targets.
        extractor: orders the candidates, and says how much a perturbed picture still shows p.
        kept_of: where the set of a name keeps what is finished of it.
        listed: gives concepts their prompts, as in :func:`~explorer.poisoning.candidates.concepts_of`.

    Raises:
        ValueError: if no extractor is named.
    """
    if extractor == ExtractorSpec():
        raise ValueError("no extractor is named: clean-label poison takes the pairs that show and say p best, expected "
                         "--extractor FOLDER, or --open-clip MODEL --weights FILE")  # fmt: skip
    pipeline, loaded = load_pipeline(base, device, "fp32"), load_extractor(extractor, device)
    targets = {seed: drawn_targets(base, pipeline, benign, steps=steps, guidance_scale=guidance_scale, seed=seed,
                                   listed=listed)
               for seed in {attack.seed for attack in attacks.values()}}  # fmt: skip
    return {
        name: CleanLabelPoison(
            attack=attack, perturbation=perturbation, autoencoder=pipeline.vae, extractor=loaded,
            target_pictures=targets[attack.seed], kept=kept_of(name), listed=listed,
            on_progress=on_progress,
        ) for name, attack in attacks.items()
    }  # fmt: skip
