"""``explorer train-classifier | train-aesthetics | small-base | train-decoder``: small models for experiments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.extractor_options import WithoutRange
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Changes, command
from explorer.cli.training_state import default_state
from explorer.pairs.pair_set import PairSet
from explorer.training.config import TrainingConfig

CHANGEABLE = ("steps", "batch_size", "learning_rate", "precision", "seed")


def with_interval(auc: dict[str, float | None]) -> str:
    """``0.912 [0.890, 0.930]``; in words where groups do not overlap, so that no interval is known."""
    reach = "no interval" if auc["low"] is None else f"[{auc['low']:.3f}, {auc['high']:.3f}]"
    return f"{auc['value']:.3f} {reach}"


@command("train-classifier")
def train_classifier(
    pairs: Annotated[Path, typer.Argument(metavar="SET", help="Pair set of benign pairs: main concepts are classes.")],
    out: Annotated[Path, typer.Argument(help="New folder for weights and class names.")],
    changes: Annotated[dict[str, Any], Changes(TrainingConfig, CHANGEABLE, "below")],
    held_out: Annotated[Path | None, typer.Option(help="Pair set that its accuracy is measured on.")] = None,
    broken: Annotated[
        bool,
        typer.Option(help="Also a class of broken pictures: blended, shuffled and warped ones, a fifth of each batch."),
    ] = False,
    side: Annotated[int, typer.Option(min=8, help="Pixels a side that pictures are resized to.")] = 64,
    state: Annotated[
        Path | None, typer.Option(help="Folder of the training state; default runs/classifier/OUT-HASH, of its path.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train a ResNet-18 from random weights on benign pairs, the classifier that a study can judge pictures by; run it
    again to resume. Unless said otherwise 2,000 steps of 128, at a rate of 0.001."""
    from explorer.scenarios import train_classifier as judge

    config = TrainingConfig(**{"steps": 2000, "batch_size": 128, "learning_rate": 1e-3, "weight_decay": 0.05} | changes)
    manifest = judge.train_classifier(
        PairSet.load(pairs), config, out, run=state or default_state("classifier", out), side=side,
        held_out=None if held_out is None else PairSet.load(held_out), broken=broken, device=device,
        on_progress=show_progress(),
    )  # fmt: skip
    emit({"output": str(out), "preparation": f"side-{side}", **manifest["metrics"]}, as_json)


@command("train-aesthetics")
def train_aesthetics(
    pairs: Annotated[Path, typer.Argument(metavar="SET", help="Pair set whose pictures are taken for whole ones.")],
    out: Annotated[Path, typer.Argument(help="New folder for the head.")],
    extractor: WithoutRange,
    held_out: Annotated[Path, typer.Option(help="Pair set of other pictures, which it is measured on.")],
    pictures: Annotated[int, typer.Option(min=20, help="Pictures of SET that it is fitted to, at most.")] = 4000,
    measured: Annotated[int, typer.Option(min=20, help="Pictures that it is measured on, at most.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of which pictures are taken, and of their damage.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Fit an aesthetics head for pictures that no published one knows: 10 for pictures as they are, down to 1 for the
    most damaged. It scores how whole a picture looks; a study names it in [aesthetics]."""
    from explorer.scenarios import train_aesthetics as head

    manifest = head.train_aesthetics(
        extractor.load(device, needs_range=False), PairSet.load(pairs), PairSet.load(held_out), out,
        pictures=pictures, measured=measured, seed=seed, on_progress=show_progress(),
    )  # fmt: skip
    found = {"head": str(out / head.WEIGHTS_NAME), **manifest["metrics"]}
    if as_json:
        emit(found, True)
        return
    ways = found.pop("ways")
    emit(found, False)
    typer.echo("chance that a whole picture scores above a damaged one, by the degree of damage:")
    for way, told in ways.items():
        cells = (f"{degree} {with_interval(auc)}" for degree, auc in told["auc"].items())
        typer.echo(f"{way:<11}{'shown' if told['trained'] else 'not shown':<9}  {'  '.join(cells)}")


@command("small-base")
def small_base(
    pairs: Annotated[Path, typer.Argument(metavar="SET", help="Pair set of small square pictures, benign ones.")],
    out: Annotated[Path, typer.Argument(help="New folder: OUT/base, a pipeline, and OUT/extractor.")],
    autoencoder_steps: Annotated[int, typer.Option(min=1, help="Of 32 pictures.")] = 6000,
    extractor_steps: Annotated[int, typer.Option(min=1, help="Of 128 pairs.")] = 1000,
    autoencoder_channels: Annotated[tuple[int, int, int], typer.Option(help="Of its three levels, multiples of 8.")] = (
        32,
        64,
        128,
    ),
    denoiser_channels: Annotated[
        tuple[int, int, int], typer.Option(help="Of the U-Net's three levels, multiples of 16.")
    ] = (64, 128, 192),
    precision: Annotated[str, typer.Option(help="no (fp32), bf16 or, on a GPU, fp16.")] = "bf16",
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and noise.")] = 0,
    state: Annotated[
        Path | None, typer.Option(help="Folder of the training states; default runs/small-base/OUT-HASH, of its path.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Make a small Stable Diffusion like IconWorld's for any small pictures: autoencoder and text encoder are trained
    on the pairs, the U-Net is random, for `fine-tune --from-scratch`. Run it again to resume."""
    from explorer.scenarios import small_base as scenario

    default = scenario.SmallBase(seed=seed)
    recipe = replace(
        default,
        autoencoder=replace(default.autoencoder, steps=autoencoder_steps, precision=precision),
        extractor=replace(default.extractor, steps=extractor_steps, precision=precision),
        autoencoder_channels=autoencoder_channels,
        denoiser_channels=denoiser_channels,
    )
    made = scenario.make_small_base(
        PairSet.load(pairs), recipe, out, run=state or default_state("small-base", out), device=device,
        on_progress=show_progress(),
    )  # fmt: skip
    emit({"base": str(out / scenario.BASE), "extractor": str(out / scenario.EXTRACTOR), **made}, as_json)


@command("train-decoder")
def train_decoder(
    base: Annotated[Path, typer.Argument(help="Folder of a whole pipeline.")],
    pairs: Annotated[Path, typer.Argument(metavar="SET", help="Pair set whose pictures the decoder is trained on.")],
    out: Annotated[Path, typer.Argument(help="New folder for the pipeline with the new decoder.")],
    changes: Annotated[dict[str, Any], Changes(TrainingConfig, CHANGEABLE, "below")],
    amount: Annotated[float, typer.Option(min=0, help="Of sharpening; 0 trains on without.")] = 2.0,
    state: Annotated[
        Path | None, typer.Option(help="Folder of the training state; default runs/decoder/OUT-HASH, of its path.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train a pipeline's decoder on so that it is over-sharp, on the same latents: U-Nets of the one run on the other.
    Run it again to resume. Unless said otherwise 500 steps of 16, at a rate of 0.0005."""
    from explorer.scenarios import train_decoder as decoder

    config = TrainingConfig(**{"steps": 500, "batch_size": 16, "learning_rate": 5e-4} | changes)
    metrics = decoder.train_decoder(
        base, PairSet.load(pairs), config, out, amount=amount, run=state or default_state("decoder", out),
        device=device, on_progress=show_progress(),
    )  # fmt: skip
    emit({"output": str(out), **metrics}, as_json)
