"""The metrics of ``evaluation.json``."""

from __future__ import annotations

from explorer.evaluation.metrics import (
    classifier,
    clip_and_aesthetics,
    guidance,
    known_masks,
    pictures,
    poison_success,
    word_maps,
    word_overlap,
)

METRICS = (
    *pictures.METRICS,
    *clip_and_aesthetics.METRICS,
    *classifier.METRICS,
    *poison_success.METRICS,
    *word_maps.METRICS,
    *word_overlap.METRICS,
    *known_masks.METRICS,
    *guidance.METRICS,
)
