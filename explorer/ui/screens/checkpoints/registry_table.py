"""The table of the screen *Checkpoints*: what was found, and how much each model still listens."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.families import FAMILY_NAMES
from explorer.core.bounded_files import printable
from explorer.core.provenance import ManifestError
from explorer.ui.screens.checkpoints.base_chooser import TITLE, kind_words
from explorer.ui.shell.messages import escaped, in_the_app, notice
from explorer.ui.shell.missing_steps import MissingStepError
from explorer.ui.shell.study_meter import study_meter, word_sensitivity

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.ui.shell.open_study import OpenStudy

SENSITIVITY_TERM = "<button type='button' class='term' data-term='word sensitivity'>Word sensitivity</button>"
CONCEPTS_TERM = "Poisoned concepts (<button type='button' class='term' data-term='C_P'>C_P</button>)"
COLUMNS = ("Model", "Kind", "Family", CONCEPTS_TERM, SENSITIVITY_TERM, "Parameters", "Size", "SHA-256", "State")
UNMEASURED = "not measured"


def registry_table(opened: OpenStudy) -> str:
    """A study's checkpoints as an HTML table, every text escaped, and its arms that have none.

    Where the study has no meter, a message below the table says what measures it.
    """
    registry = opened.registry()
    without = "".join(_row_without(arm.name) for arm in opened.study.arms if arm.checkpoint is None)
    if not registry and not without:
        return notice(
            "Put a model into the folder and press Look again, or start the app with `--study FOLDER` or "
            "`--checkpoints FOLDER`.",
            kind="error",
            title="No checkpoints were found.",
        )
    head = "".join(f"<th scope='col'>{name}</th>" for name in COLUMNS)
    meter, told = _meter(opened)
    rows = "".join(_row(checkpoint, meter) for checkpoint in registry)
    table = f"<table class='explorer-table'><thead><tr>{head}</tr></thead><tbody>{rows}{without}</tbody></table>"
    return table + told


def _meter(opened: OpenStudy) -> tuple[dict[str, Any] | None, str]:
    """The study's meter, or None and a message with what measures it."""
    try:
        return study_meter(opened), ""
    except MissingStepError as error:
        words = f"How much each model still listens to its prompt. To measure it: `{error.command}`."
        return None, notice(words, title="Word sensitivity is not measured.")
    except ManifestError as error:
        return None, notice(opened.in_words(error), kind="error", title="Word sensitivity cannot be read.")


def _row_without(arm: str) -> str:
    name = html.escape(printable(arm))
    return (
        f"<tr><th scope='row'><span class='dot'></span>{name}</th><td colspan='{len(COLUMNS) - 2}'></td>"
        "<td>no checkpoint in study.toml: nothing to draw with</td></tr>"
    )


def _row(checkpoint: Checkpoint, meter: dict[str, Any] | None) -> str:
    poison = checkpoint.poison
    colour = {True: "poisoned", False: "benign", None: "unrecorded"}[poison.poisoned]
    count = "C_P not recorded" if poison.concept_count is None else poison.concept_count
    concepts = printable(", ".join(poison.names))
    place = f"below, under “{TITLE}”"
    state = "ready" if checkpoint.problem is None else f"broken: {in_the_app(checkpoint.problem, place)}"
    state += "" if checkpoint.caveat is None or checkpoint.problem is not None else f": {checkpoint.caveat}"
    shown_hash = checkpoint.hash or "–"
    tone = "good" if checkpoint.problem is None else "bad"
    return (
        f"<tr><th scope='row'><span class='dot {colour}'></span>{html.escape(checkpoint.name)}</th>"
        f"<td>{kind_words(checkpoint, checkpoint.ways.title)}</td><td>{FAMILY_NAMES[checkpoint.family]}</td>"
        f"<td title='{html.escape(concepts, quote=True)}'>{count}</td>"
        f"{_sensitivity(checkpoint, meter)}<td>{_amount(checkpoint.parameters, 1e6, 'M')}</td>"
        f"<td>{_amount(checkpoint.size_bytes, 2**20, 'MiB')}</td>"
        f"<td><code title='{shown_hash}'>{shown_hash[:12]}</code></td>"
        f"<td class='{tone}'>{html.escape(state)}</td></tr>"
    )


def _amount(found: int, unit: float, name: str) -> str:
    """Of weights; 0 where none could be read."""
    return f"{found / unit:.1f} {name}" if found else "–"


def _sensitivity(checkpoint: Checkpoint, meter: dict[str, Any] | None) -> str:
    """The cell with a model's word sensitivity as a share of the reference's; what nobody measured is no number."""
    model = next((each for each in meter["models"] if each["name"] == checkpoint.name), None) if meter else None
    found = word_sensitivity(model) if model else None
    if model is None or found is None:
        return f"<td>{UNMEASURED}</td>"
    group, over = found
    if model["name"] == meter["reference"]:
        return "<td title='what the others are compared with'>1.00 (reference)</td>"
    if (ratio := group["relative"]) is None:
        why = escaped(model["not_measured"].get("relative", ""))
        return f"<td title='{why}'>{group['mean']['value']:.3f} by itself</td>"
    title = f"of {escaped(meter['reference'])}&#x27;s, over {ratio['n']} {over}, with its 95 % interval"
    if (noise := group["label_noise"]) is not None:
        title += f"; label noise alone would leave {noise:.2f}"
    limits = "" if ratio["low"] is None else f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    return f"<td title='{title}'>{ratio['value']:.2f}{limits}</td>"
