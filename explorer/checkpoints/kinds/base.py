"""What every kind of checkpoint answers. Headers and JSON only, no torch, until something is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from explorer.checkpoints.components import with_components
from explorer.checkpoints.denoiser import denoiser_name, read_tensors
from explorer.checkpoints.families import Family
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.noise_schedule import check_file_noise, check_noise
from explorer.checkpoints.weight_files import Shapes, WeightHeader

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

KindName = Literal["pipeline", "unet", "single-file", "lora", "graft", "hub", "pickle", "unreadable"]
WITH_COMMAND = "with `explorer set-base`"
"""How a ``problem`` says that a base is named; where there is another way, it is put in its place."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a path holds, as far as its headers say."""

    kind: KindName
    """What it is."""
    family: Family = "unknown"
    """Which architecture it follows."""
    headers: dict[str, WeightHeader] = field(default_factory=dict)
    """Header of each component read, by folder name; ``file`` for a single file or a LoRA."""
    base: Path | None = None
    """The pipeline folder that it stands on, where it is not its manifest that names it."""
    hash: str | None = None
    """What identifies its weights by records, where these are not its own files."""
    problem: str | None = None
    """Why it cannot be used, as far as the headers say."""
    caveat: str | None = None
    """What is to be known of it where nothing is wrong with it."""


class CheckpointKind:
    """One kind of checkpoint: a whole pipeline, unless it says otherwise."""

    name: KindName
    """As the registry calls it."""
    title: str
    """As a person calls it."""
    on_base = False
    """Whether it is no whole pipeline and takes what it lacks from a base."""
    own_networks = True
    """Whether the whole pipeline is made from its own files, and not from its base's."""
    is_file = False
    """Whether it is one file, which may say how it was trained."""

    def describe(self, place: ModelFolder, config: Mapping[str, Any]) -> Contents | None:
        """What lies at a place, whose manifest has this ``config``; None where it is of another kind.

        Raises:
            OSError: where it cannot be known.
        """

    def missing_base(self, family: Family) -> str:
        """What to tell of one on a base where none is named."""

    def misfit(self, checkpoint: Checkpoint) -> str | None:
        """What keeps one from its base, which is sound and of its family; None for nothing."""

    def check(self, checkpoint: Checkpoint) -> None:
        """Check that weights are as configurations describe them, and that the sampler follows what is stated of noise.

        Raises:
            WeightError: naming what does not fit.
        """
        check_noise(checkpoint.whole)
        if self.is_file:
            check_file_noise(checkpoint.files[0], checkpoint.whole)

    def files_read(self, checkpoint: Checkpoint) -> tuple[Path, ...]:
        """Files that decide its weights, beside those of its base: a change in one makes it another model."""
        return checkpoint.files

    def settings(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """What decides its weights beside its files and its base, JSON-serialisable; empty where nothing does."""
        return {}

    def weights_hash(self, checkpoint: Checkpoint, of_files: Callable[[Checkpoint], str]) -> str:
        """What identifies its weights.

        Args:
            of_files: SHA-256 over a checkpoint's own weight files.
        """
        return of_files(checkpoint)

    def denoiser_sources(self, checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
        """The checkpoints whose files hold the network that denoises: itself, and of a LoRA its base."""
        return (checkpoint,)

    def changes(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Networks of its base that a sound checkpoint is an update of; empty for what is no update."""
        return ()

    def denoiser_shapes(self, checkpoint: Checkpoint) -> Shapes:
        """Shape of every tensor of the network that denoises, by its name there; headers alone are read.

        Raises:
            WeightError: if the file's names are not those of such a network.
        """
        return checkpoint.headers[denoiser_name(checkpoint)].shapes

    def read_denoiser(
        self, checkpoint: Checkpoint, names: Iterable[str], dtype: torch.dtype | None = None
    ) -> dict[str, torch.Tensor]:
        """Some tensors of the network that denoises, by their names there, as they are stored; nothing else is read.

        Args:
            dtype: of the pipeline that they are for, to which sums that are stored nowhere are rounded; None for fp32.

        Raises:
            ValueError: if a file is not readable, lacks one of them, or does not fit its base.
        """
        return read_tensors(checkpoint.headers[denoiser_name(checkpoint)].files, names, checkpoint.name)

    def whole_of(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint whose whole pipeline it is made from: itself, but for a graft."""
        return checkpoint

    def assemble(self, checkpoint: Checkpoint, whole: DiffusionPipeline, dtype: torch.dtype) -> DiffusionPipeline:
        """The checkpoint's pipeline from the whole one that it stands on, which stays as it is."""
        return with_components(whole)
