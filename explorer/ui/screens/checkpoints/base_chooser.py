"""The part of the screen *Checkpoints* that names the base a U-Net, a single file or a LoRA stands on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.checkpoints.families import FAMILY_NAMES
from explorer.checkpoints.registry import set_base
from explorer.core.bounded_files import printable
from explorer.ui.shell.messages import escaped, notice

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.ui.shell.open_study import OpenStudy

BASE_KINDS = ("pipeline", "hub")
NOT_SET = "No base was set."
TITLE = "Name the base of a U-Net, a single file or a LoRA"


def build_base_chooser(opened: OpenStudy) -> tuple[list[gr.Dropdown], gr.Button, gr.HTML]:
    """Choosers of the checkpoint and of its base, the button, and the place of its answer; the caller wires them."""
    registry = opened.registry()
    checkpoint, base = _defaults(registry)
    with gr.Accordion(TITLE, open=checkpoint is not None):
        gr.HTML(
            "<p class='lead'>Poisoning and fine-tuning leave a U-Net alone. It needs a <em>base</em>: a whole pipeline "
            "folder of the same family that lends the text encoder, the autoencoder and the tokenizer, normally the "
            "one it was fine-tuned from. The choice is written into the checkpoint's own manifest; nothing else "
            "changes.</p>",
            container=False,
            padding=False,
        )
        with gr.Row(equal_height=True, elem_id="base-row"):
            choosers = [
                gr.Dropdown(checkpoint_choices(registry), value=checkpoint, label="Checkpoint", elem_id="base-of"),
                gr.Dropdown(base_choices(registry), value=base, label="Base: a whole pipeline", elem_id="base-chosen"),
            ]
            button = gr.Button("Set the base", elem_id="base-set", scale=0, min_width=160)
        told = gr.HTML(elem_id="base-told", container=False, padding=False)
    return choosers, button, told


def checkpoint_choices(registry: list[Checkpoint]) -> list[tuple[str, str]]:
    """Label and name of every checkpoint that is no whole pipeline, those without a base first."""
    parts = [checkpoint for checkpoint in registry if checkpoint.ways.on_base]
    return [
        (f"{checkpoint.name} ({_family(checkpoint)}{_standing(checkpoint)})", checkpoint.name)
        for checkpoint in sorted(parts, key=lambda checkpoint: not _lacks_base(checkpoint))
    ]


def base_choices(registry: list[Checkpoint]) -> list[tuple[str, str]]:
    """Label and name of every pipeline folder; a broken one may still lend to a single file, so it is listed last."""
    wholes = [checkpoint for checkpoint in registry if checkpoint.kind in BASE_KINDS]
    return [
        (f"{whole.name} ({_family(whole)}{'' if whole.problem is None else ', incomplete'})", whole.name)
        for whole in sorted(wholes, key=lambda whole: whole.problem is not None)
    ]


def set_base_notice(opened: OpenStudy, checkpoint: str | None, base: str | None) -> tuple[str, bool]:
    """Write down that ``checkpoint`` stands on ``base``; what came of it in words, and whether it was done.

    Args:
        checkpoint: name in the registry; whatever is not in there is refused, so no other path is ever reached.
        base: likewise.
    """
    if not checkpoint or not base:
        return notice("Choose a checkpoint and the pipeline it stands on.", kind="error", title=NOT_SET), False
    try:
        found = {entry.name: entry for entry in opened.refresh_registry()}
        for name in (checkpoint, base):
            if name not in found:
                words = f"{name} is no longer in {opened.study.name}."
                return notice(words, kind="error", title=NOT_SET), False
        set_base(found[checkpoint].folder, found[base].folder)
        waiting, _ = _defaults(opened.refresh_registry())
    except (ValueError, OSError) as error:
        return notice(f"{opened.in_words(error)}.", kind="error", title=NOT_SET), False
    rest = f" The next that needs a base: {waiting}." if waiting else " No other needs a base."
    words = f"{checkpoint} stands on {base} and can be chosen in Compare.{rest}"
    return notice(words, kind="done", title="Done."), True


def base_updates(opened: OpenStudy, checkpoint: str | None = None, base: str | None = None) -> list[Any]:
    """New choices for the two choosers; what was chosen stays where it is still offered."""
    registry = opened.registry()
    updates = []
    pairs = zip((checkpoint, base), _defaults(registry), strict=True)
    for (chosen, default), choices in zip(pairs, (checkpoint_choices(registry), base_choices(registry)), strict=True):
        names = [name for _, name in choices]
        updates.append(gr.update(choices=choices, value=chosen if chosen in names else default))
    return updates


def next_choice(opened: OpenStudy, base: str | None) -> tuple[str | None, str | None]:
    """What to offer once a base was set: the next checkpoint that lacks one, on the same base where their families
    agree; None for both where nothing lacks one."""
    registry = opened.registry()
    checkpoint, only = _defaults(registry)
    families = {found.name: found.family for found in registry}
    fits = checkpoint is not None and families[checkpoint] in ("unknown", families.get(base))
    return checkpoint, base if fits else only


def kind_words(checkpoint: Checkpoint, kind: str) -> str:
    """What a checkpoint is and what it stands on, as escaped HTML: ``U-Net on benign``."""
    if not checkpoint.ways.on_base:
        return escaped(kind)
    return escaped(f"{kind}, no base" if checkpoint.base is None else f"{kind} on {checkpoint.base.name}")


def _defaults(registry: list[Checkpoint]) -> tuple[str | None, str | None]:
    """The first checkpoint without a base, and the sound pipeline of its family if there is exactly one."""
    waiting = next((found for found in registry if _lacks_base(found)), None)
    if waiting is None:
        return None, None
    fitting = [
        found.name
        for found in registry
        if found.kind in BASE_KINDS and found.problem is None and waiting.family in ("unknown", found.family)
    ]
    return waiting.name, fitting[0] if len(fitting) == 1 else None


def _lacks_base(checkpoint: Checkpoint) -> bool:
    if not checkpoint.ways.on_base:
        return False
    return checkpoint.base is None or not os.path.isdir(checkpoint.base)


def _standing(checkpoint: Checkpoint) -> str:
    return ", needs a base" if _lacks_base(checkpoint) else f", on {printable(checkpoint.base.name)}"


def _family(checkpoint: Checkpoint) -> str:
    return f"family {FAMILY_NAMES['unknown']}" if checkpoint.family == "unknown" else FAMILY_NAMES[checkpoint.family]
