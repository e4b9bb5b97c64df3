"""Live work with the models: one comparison at a time, stoppable, its results served to the page that asked.

Models and torch are imported at the first use (or by :meth:`LiveGeneration.warm_up` in the background).
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.attention.prompts import is_joint
from explorer.attention.words import read_lexicon, unknown_words
from explorer.checkpoints.residency import MAX_MODELS, ResidentModels
from explorer.core.progress import Progress
from explorer.core.provenance import MANIFEST_NAME, ManifestError
from explorer.evaluation.config import EVALUATION_NAME
from explorer.generation.columns import describe_generation
from explorer.generation.generate import GenerationRequest, GenerationStopped, compare
from explorer.studies.extractors import judge_of
from explorer.studies.results import EVALUATION
from explorer.ui.screens.compare.kept_results import KeptResults
from explorer.ui.screens.compare.named_graft import graft_named
from explorer.ui.screens.compare.payload import live_payload
from explorer.ui.shell.clicks import Clicks
from explorer.ui.shell.concepts import known_words, read_concepts
from explorer.ui.shell.connections import Connections
from explorer.ui.shell.messages import CLIENT_LEFT, check_words
from explorer.ui.shell.permalink import CompareSettings, check_settings

if TYPE_CHECKING:
    from explorer.evaluation.judge import ConceptJudge
    from explorer.ui.shell.context import AppContext
    from explorer.ui.shell.open_study import OpenStudy

SECONDS_BETWEEN_UPDATES = 0.1
SECONDS_BETWEEN_LOOKS = 1.0
WARM_UP_DELAY_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class LiveUpdate:
    """What changed since the last update."""

    progress: Progress
    """Denoising steps of the model at work, which is one of several parts; no total while it is being loaded."""
    finished: tuple[str, ...]
    """URLs of the finished columns, in order of the columns asked for; "" for one not yet there."""


class LiveGeneration:
    """Runs comparisons for all sessions of one app."""

    def __init__(self, context: AppContext):
        self.context = context
        self.clicks = Clicks()
        self.connections = Connections()
        self.results = KeptResults()
        settings = context.settings
        self.models = ResidentModels(settings.device, settings.precision, settings.offload)
        self._judges: dict[str, tuple[Any, ConceptJudge]] = {}
        self._warmed = threading.Event()

    def leave_session(self, request: gr.Request) -> None:
        """Its tab was closed: end the session's comparison after its current step, or forget it if it still waits."""
        self.clicks.stop(str(request.session_hash))

    def close(self) -> bool:
        """Ask all work to end after its current step and close every open event stream, on the event loop's thread.

        Returns:
            Whether a comparison was at work.
        """
        self.connections.close()
        return self.clicks.close()

    def run(
        self, opened: OpenStudy, settings: CompareSettings, session: str, stop: threading.Event | None = None
    ) -> Iterator[LiveUpdate]:
        """Generate one column a model, reporting several times a second.

        Args:
            opened: the study that has the models.
            stop: of the session's click (``Clicks.take``); None for work that no click announced, which ends once
                nobody listens to it.

        Closing the iterator asks the work to end after the current denoising step and does not wait for it, since it
        is closed on the server's event loop when a tab is.

        Raises:
            ValueError: in words a person understands, if the settings or a checkpoint cannot be used.
            GenerationStopped: if the session asked to stop, or has left.
        """
        abandoned = (lambda: False) if stop else (lambda: self.connections.has_left(session))
        stop = self.clicks.begin(session) if stop is None else stop
        messages: queue.SimpleQueue[LiveUpdate | BaseException | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                self._compare(opened, settings, stop, messages.put)
            except BaseException as error:  # handed to the waiting thread, which raises it
                messages.put(error)
            finally:
                self.clicks.end(session, stop)
                messages.put(None)

        try:
            check_asked(opened, settings)
            self.context.models.submit(work)
        except BaseException:
            self.clicks.end(session, stop)
            raise
        try:
            yield from _received(messages, abandoned)
        finally:
            stop.set()

    def warm_up(self, opened: OpenStudy) -> None:
        """Import the libraries and load a study's models in the background, once, shortly after the first page."""
        if not self.context.settings.warm_up or self._warmed.is_set():
            return
        self._warmed.set()
        timer = threading.Timer(
            WARM_UP_DELAY_SECONDS, self.context.models.submit, [lambda: self._load_everything(opened)]
        )
        timer.daemon = True
        timer.start()

    def _load_everything(self, opened: OpenStudy) -> None:
        for name in opened.checkpoint_names()[:MAX_MODELS]:
            if self.clicks.is_busy():  # somebody pressed Generate: they come first
                return
            if not self.models.has_room(opened.checkpoint(name), times=2):
                break  # a large model is loaded when it is asked for
            with contextlib.suppress(ValueError):  # the registry tells why
                self.pipeline(opened, name)
        self.judge_or_none(opened)

    def _compare(self, opened: OpenStudy, settings: CompareSettings, stop: threading.Event, report: Any) -> None:
        """On the models' thread: what it learns goes to ``report``."""
        names = list(dict.fromkeys(settings.models))
        urls: dict[str, str] = {}

        def tell(progress: Progress) -> None:
            report(LiveUpdate(progress=progress, finished=tuple(urls.get(model, "") for model in settings.models)))

        begun = [Progress(task=name, part=part, parts=len(names)) for part, name in enumerate(names)]
        for name, progress in zip(names, begun, strict=True):
            if stop.is_set():
                raise GenerationStopped(f"stopped before {name} was loaded")
            tell(progress)
            self.pipeline(opened, name, beside=names)
        request = request_of(opened, settings)
        pipelines = {name: self.pipeline(opened, name, beside=names) for name in names}
        judge, concepts = self.judge_or_none(opened, settings.prompt), list(read_concepts(opened).nouns.values())
        # A joint transformer's heads would take gigabytes, and are dropped for the page's sake anyway.
        heads = not any(is_joint(pipeline) for pipeline in pipelines.values())
        for generation in compare(pipelines, request, keep_heads=heads, on_progress=tell, should_stop=stop.is_set):
            checkpoint = opened.checkpoint(generation.model)
            column = describe_generation(generation, checkpoint, concepts=concepts, judge=judge)
            kept = replace(column, stacks=())  # the maps are in the payload
            urls[generation.model] = f"/live/{self.results.keep(live_payload(column, opened), (opened, kept))}.json"
            steps = settings.steps
            tell(replace(begun[names.index(generation.model)], done=steps, total=steps))

    def pipeline(self, opened: OpenStudy, name: str, beside: Collection[str] = ()) -> Any:
        """The loaded model; see :meth:`~explorer.checkpoints.residency.ResidentModels.pipeline`.

        Args:
            name: of one of the study's models, or of a graft of two of them, which is put together anew.
            beside: names of the study's models that must stay.

        Raises:
            ValueError: if it cannot be loaded; if its weights are why, the registry tells from now on.
        """
        if (graft := graft_named(opened, name)) is not None:
            models = (graft.recipient.name, graft.donor.name)
            return graft.of(*(self.pipeline(opened, each, beside=models) for each in models))
        checkpoint = opened.checkpoint(name)
        try:
            return self.models.pipeline(
                checkpoint, [found.folder for found in opened.registry() if found.name in beside]
            )
        except ValueError:
            opened.check_weights(checkpoint)
            raise

    def judge_or_none(self, opened: OpenStudy, prompt: str = "") -> ConceptJudge | None:
        """The judge by the study's extractor with its tau, as they lie on the disk now.

        None without an extractor or a list of concepts, or if the extractor does not know a word of the prompt.
        """
        found, listed = opened.study.extractor, read_concepts(opened).listed
        place = found.weights if found.folder is None else found.folder / MANIFEST_NAME
        if listed is None or place is None or not place.is_file():
            return None
        known = None if found.folder is None else read_lexicon(found.folder / "tokenizer")
        if known is not None and unknown_words(known, prompt):
            return None
        stamp = (found, listed, place.stat().st_mtime_ns)
        if opened.slug not in self._judges or self._judges[opened.slug][0] != stamp:
            self._judges[opened.slug] = (stamp, judge_of(opened.study, listed, "cpu"))
        return replace(self._judges[opened.slug][1], threshold=_threshold(opened))


def _threshold(opened: OpenStudy) -> float | None:
    """The study's tau, or that of its evaluation if that is there and of these models."""
    if opened.study.tau is not None:
        return opened.study.tau
    if EVALUATION in opened.stale_steps():
        return None
    try:
        return opened.result_json(EVALUATION, EVALUATION_NAME).get("tau")
    except ManifestError:
        return None


def check_asked(opened: OpenStudy, settings: CompareSettings) -> None:
    """Refuse what no model can be asked for, before any is loaded."""
    check_settings(settings)
    for name in settings.models:
        words = known_words(opened.checkpoint(name))
        check_words(settings.prompt, words)
        check_words(settings.negative_prompt, words)


def request_of(opened: OpenStudy, settings: CompareSettings) -> GenerationRequest:
    """What a comparison asks of every model, at the study's size, as its own pictures are drawn. Imports no torch."""
    size = opened.study.size
    return GenerationRequest(
        prompt=settings.prompt,
        seed=settings.seed,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        negative_prompt=settings.negative_prompt,
        height=size,
        width=size,
    )


def _received(messages: queue.SimpleQueue, abandoned: Callable[[], bool] = lambda: False) -> Iterator[LiveUpdate]:
    """Messages of the worker until it ends: every change of model and every finished column at once, the steps between
    them a few times a second."""
    shown, shown_at = None, 0.0
    while isinstance(message := _next(messages, abandoned), LiveUpdate):
        news = (message.progress.task, message.progress.total, message.finished)
        if news != shown or (messages.empty() and time.monotonic() - shown_at >= SECONDS_BETWEEN_UPDATES):
            shown, shown_at = news, time.monotonic()
            yield message
    if message is not None:
        raise message


def _next(messages: queue.SimpleQueue, abandoned: Callable[[], bool]) -> Any:
    while not abandoned():
        with contextlib.suppress(queue.Empty):
            return messages.get(timeout=SECONDS_BETWEEN_LOOKS)
    return GenerationStopped(CLIENT_LEFT)
