"""How structure distances will be computed: exactly, or estimated from a part of the pairs; decided by time and memory.

A plan says what was chosen and why, what it should cost, and on how fast a machine that rests: the rate of our own
tiles, measured for a few hundredths of a second, and where an estimator needs the squared twin (fp64 throughout), that
of the twin, measured likewise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import torch

ESTIMATORS = ("auto", "exact", "landmarks", "rows", "stratified")
LEAST_SAMPLES = 32
"""Fewer landmarks give no usable standard error; a budget too small for them is refused."""
DEFAULT_SAMPLES = 1000
"""Rows drawn where no time budget says how many."""
MEMORY_SHARE = 0.8
"""Of the memory at hand that ``auto`` uses where no budget is given."""
TWIN_ESTIMATORS = ("rows", "stratified")
"""Estimators that need every sample's squared twin."""

_PROBE_SECONDS, _GIGABYTE = 0.05, 1e9


@dataclass(frozen=True, kw_only=True)
class StructureRequest:
    """What is asked for.

    Raises:
        ValueError: naming an estimator, number of samples or budget that cannot be.
    """

    estimator: str = "exact"
    """``auto``, ``exact``, ``landmarks``, ``rows`` or ``stratified``; ``auto`` is exact where that fits the budgets,
    and landmarks elsewhere."""
    precision: str | None = None
    """``fp16``, ``fp32`` or ``fp64`` operands of the products; None is the features' own (fp32 for pair sets)."""
    kernel: str = "auto"
    """``auto`` (triton for fp16 on CUDA), ``torch`` or ``triton``."""
    device: str = "cpu"
    """``cpu`` or ``cuda``."""
    budget_seconds: float | None = None
    """Seconds that structure AD may take."""
    budget_memory: float | None = None
    """Gigabytes it may take beside the features, in each process."""
    samples: int | None = None
    """Rows an estimator draws; by default as many as the time budget allows, and 1000 where there is none."""
    seed: int = 0
    """Decides every draw: a sample's, the estimators' and the self-check's."""

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator is {self.estimator!r}: expected one of {', '.join(ESTIMATORS)}")
        if self.samples is not None and self.estimator in ("auto", "exact"):
            raise ValueError(f"samples is {self.samples} and estimator {self.estimator}: expected one that draws rows")
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples is {self.samples}: expected at least 1")
        if self.kernel == "triton" and self.estimator not in ("auto", "exact"):
            raise ValueError(f"kernel is 'triton' and estimator {self.estimator}: expected kernel auto or torch")
        for name in ("budget_seconds", "budget_memory"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}: expected a positive number")


@dataclass(frozen=True, kw_only=True)
class StructurePlan:
    """What will be done. Costs are of one process; ``estimated_seconds`` counts all ``workers`` at work."""

    estimator: str
    """``exact``, ``landmarks``, ``rows`` or ``stratified``."""
    samples: int | None
    """Rows drawn; None for exact."""
    precision: str
    """``fp16``, ``fp32`` or ``fp64``."""
    kernel: str
    """``torch`` or ``triton``; estimators use torch."""
    device: str
    """Device of the first process."""
    block: int
    """Samples on the side of an exact tile."""
    workers: int
    """Processes that share the work."""
    seed: int
    """Decides every draw."""
    operations_per_second: float
    """Multiplications and additions a second that a tile reached here, its sums included."""
    double_operations_per_second: float | None
    """The same of the squared twin, in fp64; None where no twin is needed."""
    estimated_seconds: float
    """Of the sums; features and self-check come on top."""
    estimated_bytes: int
    """Beside the features."""
    reason: str
    """Why this and nothing else, in a sentence."""

    def report(self) -> dict[str, Any]:
        """JSON-serialisable; ``seed`` as ``estimator_seed``, ``reason`` as ``plan``."""
        fields = asdict(self)
        return {**fields, "estimator_seed": fields.pop("seed"), "plan": fields.pop("reason")}


@dataclass(frozen=True, kw_only=True)
class _Task:
    """Sizes and speed that every cost follows from."""

    n: int
    population: int
    """Rows that an estimator may draw: all, or the trusted ones."""
    image_width: int
    text_width: int
    block: int
    operand_bytes: int
    kernel: str
    workers: int
    rate: float
    """Operations a second of one process's tiles."""
    double_rate: float | None
    """Of one process's squared twin; None for estimators without it."""
    strata: int
    streamed: bool

    def exact(self) -> tuple[float, int]:
        """Seconds and bytes of all pairs: the upper triangle of tiles; joined rows, sums and what the kernel holds.

        That is three blocks and two tiles, or a block of rows where no tile is in memory.
        """
        width = self.image_width + self.text_width
        operations = self.n * (self.n + self.block) * width
        tile_bytes = max(4, self.operand_bytes)
        block_bytes = 2 * self.block * (width + self.block) * tile_bytes
        if self.kernel == "triton":
            block_bytes = self.block * width * self.operand_bytes
        return operations / (self.rate * self.workers), self.n * (width * self.operand_bytes + 5 * 8) + block_bytes

    def sampled(self, estimator: str, samples: int) -> tuple[float, int]:
        """Seconds and bytes of all rows against ``samples`` columns, with strata and squared twin where they are used.

        Processes share the rows against the columns; each computes the whole twin, before or after them.
        """
        from explorer.alignment.structure.columns import ENTRIES_AT_ONCE, ROWS_AT_ONCE
        from explorer.alignment.structure.controls import twin_operations

        width, item = self.image_width + self.text_width, max(4, self.operand_bytes)
        seconds = 2 * self.n * samples * width / (self.rate * self.workers)
        entries = max(ENTRIES_AT_ONCE, samples)
        block_rows = min(ROWS_AT_ONCE, entries // samples)
        size = ((2 * samples + block_rows) * width + 4 * entries) * item
        if estimator == "stratified":
            # A product with the strata's averages is never in fp16 on tensor cores: it is at least as fast as fp64.
            seconds += 2 * self.n * samples * self.strata / (self.double_rate * self.workers)
            size += (samples * item + block_rows * (item + 8)) * self.strata
        if estimator in TWIN_ESTIMATORS:
            seconds += twin_operations(self.n, self.image_width, self.text_width) / self.double_rate
            size = max(size, self._twin_bytes(min(self.n, ROWS_AT_ONCE)))
        return seconds, size + (0 if self.streamed and estimator == "landmarks" else self.n * 9 * 8)

    def _twin_bytes(self, rows: int) -> int:
        """A block's rows in fp64 and two products of them; the three products of the set, twice while they add up."""
        from explorer.alignment.structure.controls import twin_operations

        widths = (self.image_width, self.text_width)
        products = twin_operations(1, *widths) // 4
        return 8 * (rows * (sum(widths) + 2 * max(widths)) + 3 * products)


def plan_structure(
    request: StructureRequest,
    n: int,
    image_width: int,
    text_width: int,
    *,
    device: torch.device,
    precision: str,
    workers: int = 1,
    trusted: int | None = None,
    strata: int = 0,
    streamed: bool = False,
    operations_per_second: float | None = None,
    double_operations_per_second: float | None = None,
) -> StructurePlan:
    """Choose how to compute the structure distances of N pairs.

    Args:
        request: what is asked for.
        n: number of pairs N.
        image_width: d_image.
        text_width: d_text.
        device: where the features lie.
        precision: ``fp16``, ``fp32`` or ``fp64``, decided.
        workers: processes that share the work.
        trusted: number of rows that landmarks are drawn from; None is all N.
        strata: number of strata, for estimator ``stratified``.
        streamed: scores from landmarks are handed on, and none is held.
        operations_per_second: of one process's tiles; None measures it here.
        double_operations_per_second: of one process's squared twin; None measures it here where a twin is needed.

    Raises:
        ValueError: where what is asked for does not fit the budgets. Nothing else is put in its place.
    """
    from explorer.alignment.structure.tiles import OPERANDS, choose_block, choose_kernel

    kernel = choose_kernel(device, precision, request.kernel)
    block = choose_block(device, n, kernel)
    rate = operations_per_second or tile_rate(device, image_width, text_width, precision, kernel, block)
    double_rate = double_operations_per_second
    if double_rate is None and request.estimator in TWIN_ESTIMATORS:
        double_rate = twin_rate(device, image_width, text_width, block)
    task = _Task(
        n=n, population=n if trusted is None else trusted, image_width=image_width, text_width=text_width, block=block,
        operand_bytes=OPERANDS[precision].itemsize, kernel=kernel, workers=workers, rate=rate, double_rate=double_rate,
        strata=strata, streamed=streamed,
    )  # fmt: skip
    budget_bytes = None if request.budget_memory is None else request.budget_memory * _GIGABYTE
    if budget_bytes is None and request.estimator == "auto":
        budget_bytes = MEMORY_SHARE * available_bytes(device) / (workers if device.type == "cpu" else 1)
    budgets = (request.budget_seconds, budget_bytes)
    estimator, samples, reason = _choose(request, task, budgets)
    seconds, size = task.exact() if samples is None else task.sampled(estimator, samples)
    return StructurePlan(
        estimator=estimator, samples=samples, precision=precision, kernel=kernel if samples is None else "torch",
        device=str(device), block=block, workers=workers, seed=request.seed, operations_per_second=rate,
        double_operations_per_second=double_rate, estimated_seconds=seconds, estimated_bytes=int(size), reason=reason,
    )  # fmt: skip


def tile_rate(
    device: torch.device, image_width: int, text_width: int, precision: str, kernel: str, block: int
) -> float:
    """Operations a second of one of our own tiles off the diagonal, sums and centring included: the best of a few."""
    import torch

    from explorer.alignment.structure.tiles import Centring, FixedPointSums, exact_products, tiles_class

    image, text = _probe_rows(2 * block, image_width, text_width, device)
    sums, centred = (FixedPointSums(2 * block, 100.0 * block, device) for _ in range(2))
    offsets = torch.zeros(2 * block, dtype=torch.float64, device=device)
    tiles = tiles_class(kernel)(
        image, text, precision=precision, block=block, centring=Centring(offsets=offsets, mean=0.0)
    )
    with exact_products(device):
        best = _best_seconds(lambda: tiles.add(slice(0, block), slice(block, 2 * block), sums, centred), device)
    return 2 * block**2 * (image_width + text_width) / best


def twin_rate(device: torch.device, image_width: int, text_width: int, block: int) -> float:
    """fp64 operations a second of the squared twin of ``block`` rows: the best of a few."""
    from explorer.alignment.structure.controls import twin_operations
    from explorer.alignment.structure.estimators import squared_twin

    image, text = _probe_rows(block, image_width, text_width, device)
    return twin_operations(block, image_width, text_width) / _best_seconds(lambda: squared_twin(image, text), device)


def available_bytes(device: torch.device) -> int:
    """Memory that can be taken on ``device`` now."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _probe_rows(n: int, image_width: int, text_width: int, device: torch.device) -> list[torch.Tensor]:
    """Random unit rows `[n, image_width]` and `[n, text_width]` on ``device``."""
    import torch

    generator = torch.Generator(device=device).manual_seed(0)
    rows = [torch.randn(n, width, generator=generator, device=device) for width in (image_width, text_width)]
    return [torch.nn.functional.normalize(part) for part in rows]


def _best_seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Least seconds that ``work`` took, of as many times as fit ``_PROBE_SECONDS``, at least once and at most 19."""
    import torch

    best, spent = float("inf"), 0.0
    for repeat in range(20):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
        if repeat:  # the first is for what a library does only once
            best, spent = min(best, seconds), spent + seconds
        if spent > _PROBE_SECONDS:
            break
    return best


def _choose(
    request: StructureRequest, task: _Task, budgets: tuple[float | None, float | None]
) -> tuple[str, int | None, str]:
    exact = task.exact()
    if request.estimator in ("auto", "exact"):
        if _fits(exact, budgets):
            why = "exact was asked for" if request.estimator == "exact" else "exact fits"
            return "exact", None, f"{why}: {_against(exact, budgets)}"
        if request.estimator == "exact":
            raise ValueError(f"exact takes {_against(exact, budgets)}: expected a larger budget or estimator auto")
    estimator = "landmarks" if request.estimator == "auto" else request.estimator
    samples = _most_samples(estimator, task, budgets) if request.samples is None else request.samples
    cost = task.sampled(estimator, samples)
    if not _fits(cost, budgets):
        raise ValueError(
            f"{samples} {estimator} take {_against(cost, budgets)}: expected a larger budget"
            + ("" if request.samples is None else " or fewer samples")
        )
    why = f"exact takes {_against(exact, budgets)}, so" if request.estimator == "auto" else f"{estimator} asked for:"
    may_have_twin = task.streamed and budgets[0] is None and task.population == task.n
    after = "; the squared twin, where it pays, takes further time" if may_have_twin else ""
    return estimator, samples, f"{why} {_drawn(samples, task)}: {_against(cost, budgets)}{after}"


def _drawn(samples: int, task: _Task) -> str:
    trusted = "" if task.population == task.n else f"{task.population} trusted of "
    return f"{samples} of {trusted}{task.n} rows are drawn"


def _most_samples(estimator: str, task: _Task, budgets: tuple[float | None, float | None]) -> int:
    """The most rows that fit, at least ``LEAST_SAMPLES`` where there are as many; found by bisection."""
    least = min(LEAST_SAMPLES, task.population)
    most = task.population if budgets[0] is not None else min(task.population, DEFAULT_SAMPLES)
    while least < most:
        middle = (least + most + 1) // 2
        if _fits(task.sampled(estimator, middle), budgets):
            least = middle
        else:
            most = middle - 1
    return least


def _fits(cost: tuple[float, float], budgets: tuple[float | None, float | None]) -> bool:
    return all(budget is None or spent <= budget for spent, budget in zip(cost, budgets, strict=True))


def _against(cost: tuple[float, float], budgets: tuple[float | None, float | None]) -> str:
    seconds, size = f"about {cost[0]:.3g} s", f"{cost[1] / _GIGABYTE:.3g} GB"
    if budgets[0] is not None:
        seconds += f" of {budgets[0]:.3g} s"
    if budgets[1] is not None:
        size += f" of {budgets[1] / _GIGABYTE:.3g} GB"
    return f"{seconds} and {size}"
