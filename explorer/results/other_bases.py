"""Table 3 of Ding et al. (2024): the same poison on other base models, each a study of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf

from explorer.core.intervals import Estimate
from explorer.results import paper
from explorer.results.comparison import Comparison, Quantity
from explorer.results.measured import DIRTY_LABEL, UNTARGETED, Measured, ratio
from explorer.results.table_rows import model_rows

FAMILIES = {"SD2.1": "sd2", "SDXL": "sdxl"}
"""The table's bases beside Table 1's SD 1.5, and the families of checkpoints they are of."""


UTILITY = "utility at the largest C_P, of the control's"
MISSING = "evaluated studies of SD 2.x and of SDXL, named under `beside` in study.toml"
ANOTHER = "another base of this world is neither SD 2.1 nor SDXL; these take studies of their own, named under beside"


def other_bases(
    studies: Iterable[tuple[str, Measured]], of_this_world: Iterable[tuple[str, Measured]] = ()
) -> Comparison:
    """Table 3, each base from the first of these named studies whose models are of its family.

    Args:
        studies: the study itself, and those beside it.
        of_this_world: named studies of other bases of the study's own world: each is told, and compared with none of
            the paper's.
    """
    measured = list(studies)
    papers = [_of_base(base, family, measured) for base, family in FAMILIES.items()]
    others_here = list(of_this_world)
    found = [(name, _of_study(None, name, each)) for name, each in others_here]
    others = [
        Quantity(what=f"{UTILITY}: another base of this world", claim=(-inf, 1.0), here=share[0], over=share[1],
                 differs=ANOTHER)
        for _, share in found if share is not None
    ]  # fmt: skip
    return Comparison(
        name="Table 3", about="Other base models implode too, SD 2.1 fastest.", missing=MISSING,
        quantities=(*papers, *others),
        differs=ANOTHER if others and not any(each.here for each in papers) else "",
        rows=sum((model_rows(each.models(DIRTY_LABEL), base=base) for base, each in _told(measured, others_here)), ()),
    )  # fmt: skip


def _told(studies: list[tuple[str, Measured]], others: list[tuple[str, Measured]]) -> Iterator[tuple[str, Measured]]:
    """The studies that numbers are of: of each of the paper's bases the first of its family, then the others."""
    for base, family in FAMILIES.items():
        yield from [(base, each) for name, each in studies if _of_study(family, name, each) is not None][:1]
    yield from ((name, each) for name, each in others if _of_study(None, name, each) is not None)


def _of_base(base: str, family: str, studies: list[tuple[str, Measured]]) -> Quantity:
    here, over = next(filter(None, (_of_study(family, *each) for each in studies)), (None, ""))
    return Quantity(what=f"{UTILITY}: {base}", claim=(-inf, 1.0), over=over,
                    paper=paper.clean_of_benign(paper.rows(3, base=base), "utility"), here=here)  # fmt: skip


def _of_study(family: str | None, name: str, measured: Measured) -> tuple[Estimate, str] | None:
    """The share and what it is over; None where the study measured none of this family (None for any). The utility is
    the paper's where an aesthetics head was given, else top-1 in place of aesthetics."""
    control, *poisoned = measured.models(DIRTY_LABEL) or [None]
    if not poisoned:
        return None
    if family is not None and {measured.family(model) for model in (control, poisoned[-1])} != {family}:
        return None
    both, count = (poisoned[-1], control), len(measured.untargeted(control, poisoned[-1]))
    papers = all((model.get("clip_aesthetic_utility") or {}).get(UNTARGETED) for model in both)
    quantity, of = ("clip_aesthetic_utility", "aesthetics") if papers else ("utility", "top-1")
    share = ratio(*(model[quantity][UNTARGETED] for model in both), count)
    told = f"{count} concepts, in the study {name}; CLIP similarity and {of}"
    return None if share is None else (share, told)
