"""Calculators for what poison adds to AD: Eq. 2, Eq. 3 and Theorem 4.2 of Ding et al. (CCS 2024).

The formulas live in :mod:`explorer.alignment.growth`; here are only inputs, words and the curve.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from explorer.alignment.growth import TARGET_PATTERNS, fine_tuning_difficulty, single_concept_growth, theorem_growth
from explorer.ui.shell.messages import notice
from explorer.ui.shell.viewer import viewer

CURVE_POINTS = 100
QUANTITIES = {"ad": "AD", "feature": "feature AD", "structure": "structure AD"}
PAPER_PAIRS, PAPER_POISONS, PAPER_CONCEPT_PAIRS = 50_000, 40, 100


def build_calculators() -> None:
    """Add the section with the three calculators to the Blocks being built."""
    with gr.Column(elem_id="calculators"):
        gr.Markdown(
            "### Calculators: what poison must add to AD\nSet at first to the paper's fine-tuning (N = 50,000, m = 40)."
        )
        with gr.Row():
            with gr.Column(elem_classes="calculator"):
                _fine_tuning()
            with gr.Column(elem_classes="calculator"):
                _single_concept()
        _theorem()


def _fine_tuning() -> None:
    gr.Markdown("**Eq. 2 · fine-tuning a benign model**  \n(1 − λ) · AD(T₀) + λ · AD(T)")
    with gr.Row():
        base = gr.Number(0.441, label="AD(T₀), base data", step=0.01)
        tuning = gr.Number(0.592, label="AD(T), fine-tuning data", step=0.01)
    weight = gr.Slider(0.05, 0.95, value=0.5, step=0.05, label="λ, weight of the fine-tuning data")
    answer = gr.HTML(fine_tuning_words(0.441, 0.592, 0.5))
    _answer_on_change([base, tuning, weight], fine_tuning_words, answer)


def _single_concept() -> None:
    gr.Markdown("**Eq. 3 · one poisoned concept, at most**  \nα ρ Δf + 2 (1 − α) ρ ((n_p + n_t)/N − ρ) Δs, ρ = m/N")
    with gr.Row():
        poisons = gr.Number(PAPER_POISONS, label="m, poisoned pairs", precision=0)
        concept = gr.Number(PAPER_CONCEPT_PAIRS, label="n_p, pairs naming it", precision=0)
        target = gr.Number(PAPER_CONCEPT_PAIRS, label="n_t, target's pairs", precision=0)
    with gr.Row():
        total = gr.Number(PAPER_PAIRS, label="N, all pairs", precision=0)
        alpha = gr.Number(0.8, label="α", step=0.05)
        feature = gr.Number(1.0, label="Δf, feature", step=0.05)
        structure = gr.Number(1.0, label="Δs, structure", step=0.05)
    inputs = [poisons, concept, target, total, alpha, feature, structure]
    answer = gr.HTML(single_concept_words(*(field.value for field in inputs)))
    _answer_on_change(inputs, single_concept_words, answer)


def _theorem() -> None:
    gr.Markdown("**Theorem 4.2 · many poisoned concepts**, well separated: AD gained over the benign set, against C_P")
    with gr.Row():
        with gr.Column(scale=1, elem_classes="calculator"):
            with gr.Row():
                concepts = gr.Number(250, label="C_P, concepts", precision=0)
                poisons = gr.Number(PAPER_POISONS, label="m, poison for each", precision=0)
            with gr.Row():
                samples = gr.Number(PAPER_CONCEPT_PAIRS, label="n, pairs naming each", precision=0)
                total = gr.Number(PAPER_PAIRS, label="N, all pairs", precision=0)
            with gr.Row():
                targets = gr.Dropdown(list(TARGET_PATTERNS), value="distinct", label="Targets")
                alpha = gr.Number(0.8, label="α", step=0.05)
            quantity = gr.Radio(
                [(label, key) for key, label in QUANTITIES.items()], value="structure", label="Curve of"
            )
            inputs = [concepts, poisons, samples, total, targets, alpha, quantity]
            start = tuple(field.value for field in inputs)
            answer = gr.HTML(theorem_words(*start))
        with gr.Column(scale=2):
            curve = viewer("growth_curve", theorem_curve(*start), elem_id="growth-curve", label="curve of Theorem 4.2")
    _answer_on_change(inputs, theorem_words, answer)
    for field in inputs:
        field.change(theorem_curve, inputs, curve, queue=False, show_progress="hidden", api_visibility="private")


def _answer_on_change(inputs: list[Any], words: Any, answer: gr.HTML) -> None:
    changes = [field.change for field in inputs]
    gr.on(changes, words, inputs, answer, queue=False, show_progress="hidden", api_visibility="private")


def fine_tuning_words(base_ad: float, fine_tuning_ad: float, weight: float) -> str:
    """Eq. 2 as HTML; a message where an input is missing or out of range."""
    return _answered(
        lambda: _result(
            f"AD = {fine_tuning_difficulty(base_ad, fine_tuning_ad, weight):.4f}",
            f"{1 - weight:.2f} × {base_ad:g} + {weight:.2f} × {fine_tuning_ad:g}",
        ),
        (base_ad, fine_tuning_ad, weight),
    )


def single_concept_words(
    poisons: int,
    concept_samples: int,
    target_samples: int,
    total_samples: int,
    alpha: float,
    feature_change: float,
    structure_change: float,
) -> str:
    """Eq. 3 as HTML; a message where an input is missing or out of range."""

    def words() -> str:
        _check_shares(alpha=alpha, feature_change=feature_change, structure_change=structure_change)
        gain = single_concept_growth(
            poisons=poisons, concept_samples=concept_samples, target_samples=target_samples,
            total_samples=total_samples, alpha=alpha, feature_change=feature_change, structure_change=structure_change,
        )  # fmt: skip
        return _result(
            f"at most +{gain.ad:.6f} AD",
            f"feature AD +{gain.feature:.6f}, structure AD +{gain.structure:.6f}; "
            f"ρ = {poisons / total_samples:.4%} of the set",
        )

    given = (poisons, concept_samples, target_samples, total_samples, alpha, feature_change, structure_change)
    return _answered(words, given)


def theorem_words(
    concepts: int, poisons: int, samples: int, total: int, targets: str, alpha: float, quantity: str
) -> str:
    """Theorem 4.2 at one C_P as HTML; a message where an input is missing or out of range."""

    def words() -> str:
        _check_shares(alpha=alpha)
        gain = theorem_growth(concepts=concepts, poisons=poisons, concept_samples=samples, total_samples=total,
                              targets=targets, alpha=alpha)  # fmt: skip
        return _result(
            f"+{gain.ad:.4f} AD",
            f"feature AD +{gain.feature:.4f}, structure AD +{gain.structure:.6f} at C_P = {concepts:,}: "
            f"{concepts * poisons / total:.1%} of the set is poison",
        )

    return _answered(words, (concepts, poisons, samples, total, targets, alpha, quantity))


def theorem_curve(
    concepts: int, poisons: int, samples: int, total: int, targets: str, alpha: float, quantity: str
) -> dict[str, Any]:
    """Curves of all target patterns up to the largest C_P that fits the set, and the inputs; none where one of those is
    out of range."""
    inputs = {"concepts": concepts, "poisons": poisons, "samples": samples, "total": total, "targets": targets,
              "alpha": alpha, "quantity": quantity}  # fmt: skip
    shares = all(value is not None for value in inputs.values()) and 0 <= alpha <= 1 and concepts >= 0
    if not shares or samples < 1 or not 0 <= poisons <= samples <= total:
        return {"curves": None}
    largest = min(total // samples, max(2 * concepts, 20))
    points = sorted({round(step * largest / CURVE_POINTS) for step in range(CURVE_POINTS + 1)})
    curves: dict[str, list[Any]] = {"concepts": points}
    for pattern in TARGET_PATTERNS:
        curves[pattern] = [_gain(at, poisons, samples, total, pattern, alpha, quantity) for at in points]
    return {"curves": curves, "inputs": inputs, "quantity": QUANTITIES[quantity]}


def _gain(
    concepts: int, poisons: int, samples: int, total: int, targets: str, alpha: float, quantity: str
) -> float | None:
    """One point of a curve; None where the theorem does not apply (a cycle of one, targets that do not fit)."""
    try:
        growth = theorem_growth(concepts=concepts, poisons=poisons, concept_samples=samples, total_samples=total,
                                targets=targets, alpha=alpha)  # fmt: skip
    except ValueError:
        return None
    return getattr(growth, quantity)


def _answered(words: Any, given: tuple[Any, ...]) -> str:
    if any(value is None for value in given):
        return notice("A number is missing: fill in every field.", kind="error")
    try:
        return words()
    except ValueError as error:
        return notice(str(error), kind="error")


def _check_shares(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name.replace('_', ' ')} is {value:g}: expected a value from 0 to 1")


def _result(number: str, words: str) -> str:
    return f'<div class="result" role="status"><strong>{number}</strong><p>{words}</p></div>'
