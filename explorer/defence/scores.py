"""The scores that filters cut by: what each is called, what it says in plain words, and which end is suspicious."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.defence.recipe import HIGHEST, LOWEST

LOSS, USER = "loss:", "user:"
CLIP, FEATURE, STRUCTURE, SAMPLE_AD = "clip_similarity", "feature_distance", "structure_distance", "sample_ad"
SQUARED, CENTRED = "squared_structure_distance", "centred_structure_distance"
SCATTER, LABELS = "picture_scatter", "knn_label_disagreement"


@dataclass(frozen=True, kw_only=True)
class ScoreDescription:
    """What a person is told of a score."""

    title: str
    words: str
    """One sentence for a layperson."""
    remove: str
    """The suspicious end, ``lowest`` or ``highest``."""


DESCRIPTIONS = {
    CLIP: ScoreDescription(
        title="CLIP alignment", words="How well the picture fits its caption: low where they say different things.",
        remove=LOWEST,
    ),
    FEATURE: ScoreDescription(
        title="Feature distance D_img:txt",
        words="How far the picture is from its caption, between the distances that benign pairs have.", remove=HIGHEST,
    ),
    STRUCTURE: ScoreDescription(
        title="Structure distance D_s",
        words="How differently the pair stands to all others, by its picture and by its caption.", remove=HIGHEST,
    ),
    SAMPLE_AD: ScoreDescription(
        title="Alignment difficulty AD(x, y)",
        words="The pair's share of what makes the set hard to learn: both distances in one.", remove=HIGHEST,
    ),
    SQUARED: ScoreDescription(
        title="Squared structure distance",
        words="The structure distance with squares, so that few large differences count more.", remove=HIGHEST,
    ),
    CENTRED: ScoreDescription(
        title="Centred structure distance",
        words="The structure distance without what all pairs have in common.", remove=HIGHEST,
    ),
    SCATTER: ScoreDescription(
        title="Local picture scatter",
        words="How unlike the pictures of the most similar captions look to this pair's picture.", remove=HIGHEST,
    ),
    LABELS: ScoreDescription(
        title="Neighbours' labels",
        words="How many of the most similar pictures have a caption about something else.", remove=HIGHEST,
    ),
}  # fmt: skip


def loss_name(arm: str, less: str | None = None) -> str:
    """Of the denoising loss by an arm's model, or of the difference to that by another's."""
    return f"{LOSS}{arm}" if less is None else f"{LOSS}{arm}-{less}"


def describe_loss(arm: str, less: str | None = None) -> ScoreDescription:
    """Of the score :func:`loss_name`."""
    if less is None:
        words = f"How hard the model {arm} finds this pair to draw."
        return ScoreDescription(title=f"Denoising loss of {arm}", words=words, remove=HIGHEST)
    words = f"How much harder the model {arm} finds the pair than the model {less} does."
    return ScoreDescription(title=f"Loss of {arm} less that of {less}", words=words, remove=HIGHEST)


def describe_users(column: str) -> ScoreDescription:
    """Of a column of a file that the user brought."""
    words = f"The column {column} of a file that was brought along."
    return ScoreDescription(title=column, words=words, remove=HIGHEST)
