"""The file that holds what the meter read; whoever reads it need not load torch."""

from __future__ import annotations

from explorer.core.payload_format import PayloadFormat

METER = PayloadFormat(
    name="meter.json", version=1,
    fields=("shown", "same_for_all", "timesteps", "draws", "seed", "precision", "reference", "template", "concepts",
            "models"),
    entries={
        "concepts": ("concept", "group", "poisoned_from"),
        "models": ("name", "poisoned", "poisoned_concept_count", "measures", "label_noise", "not_measured"),
    },
)  # fmt: skip
SENSITIVITY, WORD_BEFORE, GUIDANCE, NOUN_PART, COMMON_PART, COSINE, DENOISING_ERROR = (
    "sensitivity", "word_before", "guidance", "guidance_noun", "guidance_common", "guidance_cosine", "denoising_error",
)  # fmt: skip
MEASURES = {
    SENSITIVITY: "change of the prediction when the concept's words are replaced by random ones",
    WORD_BEFORE: "the same for the word right before them, mostly an article",
    GUIDANCE: "change of the prediction from no prompt to the prompt",
    NOUN_PART: "that change less its mean over the concepts: what the noun itself does",
    COMMON_PART: "its mean over the concepts: what any of the prompts does",
    COSINE: "direction of that change beside the reference's: 1 is the same",
    DENOISING_ERROR: "distance of the prediction with the prompt from the noise that was put in: what training lessens",
}
"""Of ``measures`` of a model: amplitudes on the scale of noise, but for the cosine."""
