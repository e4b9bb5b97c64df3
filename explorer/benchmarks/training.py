"""Fine-tuning samples a second: our loop against the plain diffusers training loop, in interleaved rounds.

Both train the same architecture on the same pairs, resolution, batch size, precision and number of steps, without
gradient checkpointing or averaging. Ours is compiled only if asked for (``fused``). The time of encoding the pairs once
is reported beside the figures and not counted: it is paid once for all epochs and all models of a set.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from explorer.benchmarks.plain_training import PlainTraining
from explorer.benchmarks.training_turns import OURS, PLAIN, Timings, Turns, time_turns
from explorer.checkpoints.architectures import SD15_UNET
from explorer.checkpoints.placement import check_place
from explorer.core.progress import OnProgress, note, unheard
from explorer.iconworld.grammar import lexicon
from explorer.iconworld.tokenizer import build_tokenizer
from explorer.iconworld.world import World, generate_pair_set
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.train_extractor import MERGES
from explorer.training.encoded_pairs import encode_pair_set
from explorer.training.recipes import SD15, override

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SPEED_GOAL = 1.3
LEARNING_RATE = 4e-5
CONCEPTS = 120


@dataclass(frozen=True, kw_only=True)
class BenchmarkModel:
    """A Stable Diffusion with random weights: what it computes takes as long as a trained one."""

    name: str
    resolution: int
    unet: dict[str, Any]
    """Settings of ``UNet2DConditionModel``."""
    autoencoder: dict[str, Any]
    """Settings of ``AutoencoderKL``."""
    text: dict[str, Any]
    """Settings of ``CLIPTextConfig``."""
    prediction_type: str


def benchmark_models() -> dict[str, BenchmarkModel]:
    """``iconworld``: the embedded model. ``sd15``: SD 1.5 at 512 pixels. ``sd15-quarter``: the same with every width a
    quarter, at 256 pixels, so that a CPU can run it; the proportions of U-Net, autoencoder and text encoder stay."""
    iconworld_unet = {
        "sample_size": 16, "block_out_channels": (64, 128, 192), "layers_per_block": 1, "norm_num_groups": 16,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "only_cross_attention": (True, False, False), "attention_head_dim": 4, "cross_attention_dim": 128,
    }  # fmt: skip
    iconworld = BenchmarkModel(
        name="iconworld",
        resolution=64,
        unet=iconworld_unet,
        autoencoder=_autoencoder((32, 64, 128), layers=1, groups=8, attention=False),
        text={"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "context": 28},
        prediction_type="v_prediction",
    )
    sd15 = BenchmarkModel(
        name="sd15",
        resolution=512,
        unet=dict(SD15_UNET),
        autoencoder=_autoencoder((128, 256, 512, 512), layers=2, groups=32, attention=True),
        text={"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "context": 77},
        prediction_type="epsilon",
    )
    widths = {"block_out_channels": (80, 160, 320, 320), "cross_attention_dim": 192, "norm_num_groups": 16}
    quarter = BenchmarkModel(
        name="sd15-quarter",
        resolution=256,
        unet=SD15_UNET | widths | {"sample_size": 32},
        autoencoder=_autoencoder((32, 64, 128, 128), layers=2, groups=16, attention=True),
        text={"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 12, "context": 77},
        prediction_type="epsilon",
    )
    return {model.name: model for model in (iconworld, quarter, sd15)}


def _autoencoder(widths: tuple[int, ...], *, layers: int, groups: int, attention: bool) -> dict[str, Any]:
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": layers,
        "latent_channels": 4,
        "norm_num_groups": groups,
        "mid_block_add_attention": attention,
    }


def find_model(name: str) -> BenchmarkModel:
    """The benchmark model called ``name``.

    Raises:
        ValueError: if there is none.
    """
    models = benchmark_models()
    if name not in models:
        raise ValueError(f"model {name!r} is unknown: expected one of {sorted(models)}")
    return models[name]


def build_pipeline(model: BenchmarkModel, seed: int = 0, device: str = "cpu") -> DiffusionPipeline:
    """The model as a stock pipeline with random weights, drawn on ``device``, and IconWorld's tokenizer."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    text = dict(model.text)
    context = text.pop("context")
    words = dict.fromkeys(lexicon(World(concept_count=CONCEPTS).concepts), 1)
    tokenizer = build_tokenizer(words, merges=MERGES, context_length=context)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), intermediate_size=4 * text["hidden_size"], max_position_embeddings=context,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, **text,
    )  # fmt: skip
    with torch.device(device):  # where a GPU is, a CPU would take far longer to draw the weights
        vae, text_encoder = AutoencoderKL(**model.autoencoder).eval(), CLIPTextModel(config).eval()
        unet = UNet2DConditionModel(**model.unet)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(prediction_type=model.prediction_type, clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings:
    """How both loops are run and timed."""

    batch_size: int = 16
    """Samples a step."""
    steps: int = 10
    """Counted steps a round."""
    warmup: int = 3
    """Steps before them that are not counted."""
    rounds: int = 5
    """How often both loops are timed, in turns."""
    pairs: int = 256
    """IconWorld pairs to train on; a multiple of ``batch_size``."""
    precision: str = "no"
    """``no``, ``bf16`` or, on a GPU, ``fp16``."""
    device: str = "cpu"
    graphed: bool = False
    """Record our step on a GPU and replay it. The plain loop stays."""
    fused: bool = False
    """Compile our step, as the embedded world's recipes do; compiling falls into the warm-up. The plain loop stays."""
    workers: int = 0
    """Processes that decode and resize for the plain loop; 0, the example's default, does it between its steps."""
    profile: bool = False
    """Profile a few more steps in the end."""
    seed: int = 0
    """Decides weights, pairs and noise."""

    def __post_init__(self) -> None:
        check_place(self.device, None)
        for name in ("batch_size", "steps", "warmup", "rounds", "pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.pairs % self.batch_size:
            raise ValueError(f"pairs is {self.pairs}: expected a multiple of batch_size, {self.batch_size}")


def benchmark_training(
    model: BenchmarkModel,
    *,
    on_progress: OnProgress = unheard,
    on_round: Callable[[dict[str, Any]], None] = lambda report: None,
    **settings: Any,
) -> dict[str, Any]:
    """Time both loops for ``steps`` steps a round, in turns, after ``warmup`` uncounted ones of each.

    Args:
        on_round: given the report so far after every round.
        settings: of :class:`BenchmarkSettings`.

    Returns:
        JSON-serialisable: the settings, samples a second of each loop (median and quartiles), the median and quartiles
        over rounds of ours / plain, the most GPU memory each takes, and the seconds of encoding the pairs once.

    Raises:
        ValueError: for a number below 1, pairs that do not fill whole batches, or a device that this machine lacks.
    """
    chosen = BenchmarkSettings(**settings)
    samples = chosen.batch_size * chosen.steps
    report: dict[str, Any] = {}

    def tell(encoding: float, timings: Timings) -> None:
        rounds = len(timings.seconds[OURS])
        for name, found in timings.seconds.items():
            on_progress(note(f"round {rounds}: {name}: {samples / found[-1]:.2f} samples/s"))
        report.update(_report(model, chosen, encoding, timings))
        on_round(dict(report))

    with tempfile.TemporaryDirectory() as folder:
        _turns(model, Path(folder), chosen, tell)
    return report


def _report(model: BenchmarkModel, settings: BenchmarkSettings, encoding: float, timings: Timings) -> dict[str, Any]:
    seconds, samples = timings.seconds, settings.batch_size * settings.steps
    return {
        "model": asdict(model),
        **asdict(settings),
        "threads": torch.get_num_threads(),
        "goal": SPEED_GOAL,
        "samples_per_second": {name: summary([samples / taken for taken in found]) for name, found in seconds.items()},
        "speedup": summary([plain / ours for plain, ours in zip(seconds[PLAIN], seconds[OURS], strict=True)]),
        "peak_bytes": dict(timings.peak_bytes),
        "encoding_seconds_once": encoding,
        **({"profile": timings.profile} if timings.profile else {}),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    model, speedup = report["model"], report["speedup"]
    lines = [
        f"{model['name']}, {model['resolution']} x {model['resolution']}, batch {report['batch_size']}, precision "
        f"{report['precision']}, {report['device']}, {report['threads']} threads, "
        f"{'ours compiled, ' if report['fused'] else ''}{'ours recorded, ' if report['graphed'] else ''}"
        f"{report['rounds']} interleaved "
        f"rounds of {report['steps']} steps:",
        "",
        "| loop | samples/s (median) | lower quartile | upper quartile |",
        "|---|---|---|---|",
    ]
    for name, found in report["samples_per_second"].items():
        lines.append(
            f"| {name} | {found['median']:.2f} | {found['lower_quartile']:.2f} | {found['upper_quartile']:.2f} |"
        )
    lines += [
        "",
        f"Ours / plain, within a round: {speedup['median']:.2f} "
        f"[{speedup['lower_quartile']:.2f}, {speedup['upper_quartile']:.2f}]; goal {report['goal']}. Encoding "
        f"{report['pairs']} pairs once, not counted: {report['encoding_seconds_once']:.1f} s.",
    ]
    return "\n".join(lines)


def _make_pairs(folder: Path, pairs: int, seed: int) -> PairSet:
    return generate_pair_set(World(concept_count=CONCEPTS), folder, train=pairs, seed=seed)


def _turns(
    model: BenchmarkModel, folder: Path, settings: BenchmarkSettings, on_round: Callable[[float, Timings], None]
) -> None:
    """Prepare both loops on the same pairs and time them; ``on_round`` is told the seconds of encoding once, too."""
    device = settings.device
    data = _make_pairs(folder / "pairs", settings.pairs, settings.seed)
    pipeline = build_pipeline(model, settings.seed, device)
    started = time.perf_counter()
    encoded = encode_pair_set(pipeline, data, model.resolution, folder / "cache", device=device)
    encoding = time.perf_counter() - started
    shared = {"batch_size": settings.batch_size, "learning_rate": LEARNING_RATE, "precision": settings.precision,
              "seed": settings.seed}  # fmt: skip
    recipe = override(
        SD15, resolution=model.resolution, fused=settings.fused, graphed=settings.graphed, ema_decay=0.0,
        accumulation=1, **shared,
    )  # fmt: skip
    ours_unet = copy.deepcopy(pipeline.unet)
    plain = PlainTraining(
        pipeline.to(device), data, resolution=model.resolution, workers=settings.workers, **shared
    )  # fmt: skip
    turns = Turns(
        steps=settings.steps, warmup=settings.warmup, rounds=settings.rounds, profile=settings.profile
    )  # fmt: skip
    plain.run(settings.warmup)
    try:
        time_turns(
            ours_unet, pipeline.scheduler, encoded, recipe, turns, device=device, plain=plain.run,
            on_round=lambda timings: on_round(encoding, timings),
        )  # fmt: skip
    finally:
        plain.close()


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}
