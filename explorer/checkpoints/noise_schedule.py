"""The noise that a model was trained on, as its configurations state it: followed as stated, or refused, in one place.

A sampler takes of ``scheduler_config.json`` what its class knows and fills in the rest with defaults, and a pipeline
takes of ``vae/config.json`` what its class knows. Both go unsaid in diffusers, and the pictures are then not those of
the model. Training has one definition, that of diffusers' training scripts: x_t = sqrt(a_t) x + sqrt(1 - a_t) noise,
with a_t from betas (Ho et al. 2020). EDM (Karras et al. 2022) and flow matching have others.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from explorer.checkpoints.families import TRANSFORMER_PIPELINES
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.weight_files import WeightError

if TYPE_CHECKING:
    import torch

NOISE_FIELDS = (
    "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type", "rescale_betas_zero_snr",
    "sigma_data", "sigma_min", "sigma_max", "sigma_schedule", "shift", "use_dynamic_shifting", "use_flow_sigmas",
    "num_train_timesteps",
)  # fmt: skip
"""Entries of a scheduler's configuration that say on what noise a model was trained."""
STATED_BETAS = ("beta_start", "beta_end", "beta_schedule")
NEEDED_FIELDS = (*STATED_BETAS, "num_train_timesteps", "sigma_data", "sigma_min", "sigma_max", "shift")
"""Those whose default is never what a released model was trained on, where the class has no default of None."""
PREDICTIONS = ("epsilon", "sample", "v_prediction", "flow_prediction")
TRAINED_PREDICTIONS = ("epsilon", "v_prediction")
LATENT_LISTS = ("latents_mean", "latents_std")
LATENT_FIELDS = ("shift_factor", *LATENT_LISTS)
FOLLOWED_LATENTS = {
    "StableDiffusionPipeline": (),
    "StableDiffusionXLPipeline": ("latents_mean", "latents_std"),
    "StableDiffusion3Pipeline": ("shift_factor",),
    "FluxPipeline": ("shift_factor",),
}
"""What each pipeline reads of its autoencoder's latents besides ``scaling_factor``."""
TOLD_NOISE = {
    "modelspec.prediction_type": ("prediction_type", {"v": "v_prediction", "epsilon": "epsilon"}),
    "ss_v_parameterization": ("prediction_type", {"true": "v_prediction"}),
    "ss_zero_terminal_snr": ("rescale_betas_zero_snr", {"true": True}),
}
"""Entries of a file's metadata, the field of a scheduler that they are about, and what their values mean there."""
LEVELS_NAME = "alphas_cumprod"
STORED_TOLERANCE = 4e-3
"""Between square roots of a_t where a file's may have been rounded to bf16; two schedules differ by more somewhere."""
LEVELS_TOLERANCE = 1e-3
"""The same between two computations; Euler puts 2^-24 where a zero terminal signal-to-noise ratio has 0."""
RISE = 1e-5
"""Of a_t from one timestep to the next, which rounding or that 2^-24 may cause."""


@dataclass(frozen=True, kw_only=True)
class TrainingNoise:
    """How latents are noised in training, and what the U-Net is asked for."""

    signal: torch.Tensor
    """a_t, the share of the signal's variance at each timestep: float32 ``[T]``, falling, in [0, 1]."""
    prediction_type: str
    """``epsilon`` or ``v_prediction``."""


def noised(latents: torch.Tensor, noise: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
    """``latents`` with ``noise`` in them, both ``[n, C, h, w]``, at a_t of each, ``signal`` ``[n]``."""
    signal = signal[:, None, None, None]
    return signal.sqrt() * latents + (1 - signal).sqrt() * noise


def training_target(
    prediction_type: str, latents: torch.Tensor, noise: torch.Tensor, signal: torch.Tensor
) -> torch.Tensor:
    """What the U-Net is asked for: the noise (Ho et al. 2020, Eq. 14) or the velocity (Salimans & Ho 2022)."""
    if prediction_type == "epsilon":
        return noise
    signal = signal[:, None, None, None]
    return signal.sqrt() * noise - (1 - signal).sqrt() * latents


def training_noise(scheduler: Any, unet_config: dict[str, Any]) -> TrainingNoise:
    """The noise a U-Net is trained on, from the scheduler that came with it, whatever sampler that is.

    Raises:
        ValueError: if it was trained on another kind of noise than betas give, predicts neither noise nor velocity, or
            reads a guidance scale (``time_cond_proj_dim``), which only distillation trains.
    """
    from diffusers import DDPMScheduler

    name, config = type(scheduler).__name__, scheduler.config
    if unet_config.get("time_cond_proj_dim") is not None:
        raise ValueError(
            "its U-Net reads a guidance scale (time_cond_proj_dim), which distillation trains and the denoising loss "
            "does not: expected a U-Net without"
        )
    betas = "beta_start" in inspect.signature(type(scheduler).__init__).parameters
    if not betas or config.get("use_flow_sigmas") or config.get("timestep_type") == "continuous":
        raise ValueError(
            f"its scheduler {name} follows another noise parameterisation than betas (such as EDM or flow matching), "
            "which the denoising loss does not have"
        )
    kind = config.get("prediction_type")
    if kind not in TRAINED_PREDICTIONS:
        raise ValueError(f"its scheduler predicts {kind!r}: expected {' or '.join(TRAINED_PREDICTIONS)}")
    # Samplers round the schedule in their own ways (SDXL's Euler works on sigmas); training has one definition.
    try:
        signal = DDPMScheduler.from_config(config).alphas_cumprod.float()
    except Exception as error:  # what a library raises over a configuration of any content is not foreseeable
        raise ValueError(f"its scheduler {name} states a noise schedule that cannot be read: {error}") from error
    own = getattr(scheduler, "alphas_cumprod", None)
    if own is not None and not _same_levels(own, signal):
        raise ValueError(f"its scheduler {name} does not follow the noise schedule that its configuration states")
    return TrainingNoise(signal=signal, prediction_type=kind)


def check_noise(folder: ModelFolder) -> None:
    """Check that a pipeline folder's sampler and pipeline follow all that its configurations say of noise and latents.

    Raises:
        WeightError: naming the entry that is not followed, is missing, or has no meaning.
    """
    index = folder.index()
    kind = index.get("_class_name")
    _check_latents(folder.json("vae/config.json") if "vae" in index else {}, kind)
    name, stated = index["scheduler"][1], folder.json("scheduler/scheduler_config.json")
    _check_entries(name, stated)
    flows = str(name).startswith("FlowMatch")
    if kind in TRANSFORMER_PIPELINES and not (flows or stated.get("use_flow_sigmas")):
        raise WeightError(f"its scheduler {name} follows no flow matching, which {kind} was trained on")
    if kind not in TRANSFORMER_PIPELINES and flows:
        raise WeightError(f"its scheduler {name} is of flow matching, which {kind} cannot use")
    _check_levels(read_scheduler(folder))


def read_scheduler(folder: ModelFolder) -> Any:
    """The scheduler of a pipeline folder.

    Raises:
        WeightError: if diffusers knows none of its name or cannot make it.
    """
    import diffusers

    name = folder.index()["scheduler"][1]
    try:
        return _scheduler_class(name).from_pretrained(folder.path / "scheduler", local_files_only=True)
    except WeightError:
        raise
    except Exception as error:  # what a library raises over a configuration of any content is not foreseeable
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WeightError(
            f"scheduler/scheduler_config.json makes no {name} of diffusers {diffusers.__version__}: {reason}"
        ) from error


def check_file_noise(path: Path, base: ModelFolder) -> None:
    """Compare what a single file or a LoRA says of its training with the scheduler of its base.

    Read are the metadata of the model specification (``modelspec.prediction_type``) and of kohya-ss
    (``ss_v_parameterization``, ``ss_zero_terminal_snr``), and the a_t that files of the original code hold.

    Raises:
        WeightError: naming what the scheduler does not follow.
    """
    scheduler = read_scheduler(base)
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            levels = file.get_tensor(LEVELS_NAME).float() if LEVELS_NAME in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, TypeError) as error:
        raise WeightError(f"{path.name} is not readable: {error}") from error
    for entry, (field, meanings) in TOLD_NOISE.items():
        meant = meanings.get(str(told.get(entry, "")).lower())
        found = scheduler.config.get(field)
        if meant is not None and found != meant:
            raise WeightError(
                f"its metadata says {entry} {told[entry]}: the scheduler of its base {base.name} has {field} {found}"
            )
    own = getattr(scheduler, "alphas_cumprod", None)
    if levels is not None and own is not None and not _same_levels(levels, own, STORED_TOLERANCE):
        raise WeightError(f"its {LEVELS_NAME} are not those of the scheduler of its base {base.name}")


def _scheduler_class(name: Any) -> Any:
    import diffusers

    if not (isinstance(name, str) and name.endswith("Scheduler") and hasattr(diffusers, name)):
        raise WeightError(f"model_index.json names the scheduler {name!r}: diffusers has none of that name")
    return getattr(diffusers, name)


def _check_entries(name: Any, stated: dict[str, Any]) -> None:
    parameters = inspect.signature(_scheduler_class(name).__init__).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return  # it stands in for a class whose library is missing; making it says which
    needed = set(NEEDED_FIELDS)
    if stated.get("trained_betas") is not None:
        needed -= set(STATED_BETAS)
    for field in NOISE_FIELDS:
        value = stated.get(field)
        if field not in parameters:
            if value not in (None, False, "epsilon"):
                raise WeightError(
                    f"scheduler_config.json says {field} {_short(value)}, which its sampler {name} does not follow"
                )
        elif field in needed and field not in stated and parameters[field].default is not None:
            raise WeightError(
                f"scheduler_config.json states no {field}: the noise that the model was trained on is not known"
            )
    kind = stated.get("prediction_type", "epsilon")  # older files have no such entry: there was nothing else
    if kind not in PREDICTIONS:
        raise WeightError(
            f"scheduler_config.json says prediction_type {_short(kind)}: expected {', '.join(PREDICTIONS)}"
        )


def _same_levels(one: torch.Tensor, other: torch.Tensor, tolerance: float = LEVELS_TOLERANCE) -> bool:
    return one.shape == other.shape and bool(((one.sqrt() - other.sqrt()).abs() <= tolerance).all())


def _check_levels(scheduler: Any) -> None:
    """Refuse betas that are no noise schedule: a_t of another number, rising, or no share."""
    levels, expected = getattr(scheduler, "alphas_cumprod", None), scheduler.config.get("num_train_timesteps")
    if levels is None:
        return
    if len(levels) != expected:
        raise WeightError(f"scheduler_config.json has {len(levels)} betas and says num_train_timesteps {expected}")
    if not bool(((levels >= 0) & (levels <= 1)).all()) or bool((levels.diff() > RISE).any()):
        raise WeightError("scheduler_config.json states betas that are no noise schedule: expected shares in [0, 1]")


def _check_latents(config: dict[str, Any], kind: Any) -> None:
    followed = FOLLOWED_LATENTS.get(kind, LATENT_FIELDS)
    for field in LATENT_FIELDS:
        if field not in followed and config.get(field):
            raise WeightError(f"vae/config.json says {field} {_short(config[field])}, which {kind} does not follow")
    if (config.get("latents_mean") is None) != (config.get("latents_std") is None):
        raise WeightError("vae/config.json states only one of latents_mean and latents_std: expected both or neither")
    # The default is that of SD 1.x, whose older files have no such entry.
    scale = config.get("scaling_factor", 0.18215 if kind == "StableDiffusionPipeline" else None)
    if not _is_number(scale) or scale <= 0:
        raise WeightError(f"vae/config.json says scaling_factor {_short(scale)}: expected a number above 0")
    if kind in TRANSFORMER_PIPELINES and not _is_number(config.get("shift_factor")):
        raise WeightError(f"vae/config.json says shift_factor {_short(config.get('shift_factor'))}: expected a number")
    channels = config.get("latent_channels", 4)
    for field in LATENT_LISTS:
        values = config.get(field)
        if values is not None and not (
            isinstance(values, list) and len(values) == channels and all(map(_is_number, values))
        ):
            raise WeightError(f"vae/config.json says {field} {_short(values)}: expected {channels} numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
