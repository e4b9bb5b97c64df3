"""AD of a store of any size from landmarks: rows are read, scored, written and forgotten."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.score_parts import join_parts, score_parts
from explorer.alignment.structure.compute import ComputationRecord, ad_memory
from explorer.core.progress import note
from explorer.core.workers import Workers

if TYPE_CHECKING:
    import pyarrow

    from explorer.alignment.score_parts import ScoreParts
    from explorer.alignment.streamed_difficulty import StreamedDifficulty
    from explorer.alignment.structure.plan import StructurePlan
    from explorer.embeddings.store import EmbeddingStore

UID_COLUMN = "uid"


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedComputation(ComputationRecord):
    """How streamed scores came about."""

    streamed: StreamedDifficulty
    """What was found."""

    @property
    def estimator_standard_error(self) -> float:
        """Of structure AD against that of all pairs, over draws; NaN where it is undefined."""
        return self.streamed.standard_error

    def report(self) -> dict[str, Any]:
        """That of every computation, the control variates, and how the landmarks' estimated D_s rank beside the exact
        ones (Spearman; None where it is undefined)."""
        ranks = self.streamed.rank_correlation
        return {
            **super().report(),
            **self.streamed.controls.report(),
            "rank_correlation": None if math.isnan(ranks) else ranks,
        }


@ad_memory
def stream_store(
    store: EmbeddingStore,
    plan: StructurePlan,
    *,
    feature_range: tuple[float, float],
    alpha: float,
    convention: str,
    trusted: np.ndarray | None,
    twin: bool,
    scores: Path | None,
    report: Callable[[StreamedComputation], dict[str, Any]],
    workers: Workers,
) -> StreamedComputation:
    """AD of all pairs of a store from the landmarks that ``plan`` asks for.

    Args:
        trusted: rows that landmarks are drawn from; None is all.
        twin: whether the squared twin may be a control variate, which is time on top of the plan's.
        scores: new .parquet file for the scores of every pair.
        report: what to keep in it of the measurement.

    Raises:
        ValueError: on rows that are no unit rows, or a folder for the scores that processes do not share; if memory
            does not suffice.
        ArithmeticError: if the self-check finds more than rounding explains; no score is kept then.
    """
    import torch

    from explorer.alignment.rows_on_disk import RowsOnDisk
    from explorer.alignment.streamed_difficulty import stream_landmarks
    from explorer.core.sampling_design import draw_evenly

    image, text = (RowsOnDisk(part, device=workers.device) for part in (store.image, store.text))
    population = len(store) if trusted is None else torch.from_numpy(trusted)
    draw = draw_evenly(population, plan.samples, plan.seed, least=1)
    started = time.perf_counter()
    with ExitStack() as stack:
        part = None if scores is None else stack.enter_context(score_parts(scores, workers.index))
        streamed = stream_landmarks(
            image, text, draw, _writing(store, part), feature_range=feature_range, alpha=alpha, convention=convention,
            precision=plan.precision, seed=plan.seed, twin=twin, trusted=trusted is not None, share=workers.share,
        )  # fmt: skip
        done = StreamedComputation(
            plan=plan, check=streamed.check, seconds=time.perf_counter() - started,
            trusted=None if trusted is None else len(trusted), streamed=streamed,
        )  # fmt: skip
        done.check.refuse_failed(plan)
        if part is not None:
            part.close()
            workers.wait()
            if workers.index == 0 and not join_parts(scores, workers.count, report(done)):
                workers.on_progress(note(f"{scores} has no ranks: they are given of up to a million pairs"))
            workers.wait()
    return done


def _writing(store: EmbeddingStore, part: ScoreParts | None) -> Callable[[slice, dict[str, np.ndarray]], None]:
    """What takes the scores of each block: the process's part of the file, if there is to be one."""
    if part is None:
        return lambda rows, scores: None
    uids: list[_Uids] = []

    def take(rows: slice, scores: dict[str, np.ndarray]) -> None:
        if not uids:
            uids.append(_Uids(store, rows.start))
        part.add(rows, uids[0].next(rows.stop - rows.start), scores)

    return take


class _Uids:
    """The uids of a store from a row on, read as they are wanted."""

    def __init__(self, store: EmbeddingStore, first: int) -> None:
        known = UID_COLUMN in store.metadata_columns()
        self._batches: Iterator[pyarrow.Array] | None = store.strings(UID_COLUMN, first) if known else None
        self._left: pyarrow.Array | None = None

    def next(self, count: int) -> pyarrow.Array:
        """string `[count]`: all null where the store's metadata has none."""
        import pyarrow

        if self._batches is None:
            return pyarrow.nulls(count, pyarrow.string())
        found = [pyarrow.array([], pyarrow.string()) if self._left is None else self._left]
        while sum(map(len, found)) < count:
            found.append(next(self._batches))
        whole = pyarrow.concat_arrays(found)
        self._left = whole[count:]
        return whole[:count]
