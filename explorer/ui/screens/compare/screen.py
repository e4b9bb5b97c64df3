"""The screen *Compare*: one prompt, one seed, two to four models side by side with their attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.ui.screens.compare.controls import chip_groups, model_row, prompt_row
from explorer.ui.screens.compare.first_settings import default_settings, told_of_steps
from explorer.ui.screens.compare.payload import linked_comparison, precomputed_comparison
from explorer.ui.shell import messages
from explorer.ui.shell.model_thread import MODEL_WORK
from explorer.ui.shell.open_study import is_told
from explorer.ui.shell.page_address import Shows, read_address, send_address, study_named
from explorer.ui.shell.permalink import (
    COLUMN_RANGE,
    NO_MODEL,
    CompareSettings,
    read_permalink,
    write_permalink,
)
from explorer.ui.shell.viewer import viewer

if TYPE_CHECKING:
    from explorer.ui.screens.compare.live_generation import LiveGeneration
    from explorer.ui.shell.clicks import StopEvent
    from explorer.ui.shell.context import AppContext
    from explorer.ui.shell.open_study import OpenStudy

FIELDS = 5 + COLUMN_RANGE[1]  # prompt, seed, steps, guidance scale, negative prompt and the columns


def build_compare_screen(
    context: AppContext, live: LiveGeneration, address: gr.Textbox, shows: Shows
) -> list[gr.Dropdown]:
    """Build the screen inside the current Blocks and wire it; returns the column choosers.

    Args:
        address: see :func:`~explorer.ui.shell.page_address.address_input`.
        shows: see :class:`~explorer.ui.shell.page_address.Shows`.
    """
    url = context.add_payload("compare", precomputed_comparison)
    opened = context.study()
    defaults = default_settings(opened)
    viewer("compare_note", {}, elem_id="compare-note", label="what this screen shows")
    prompt, numbers, generate, stop = prompt_row(defaults)
    # Right below the button, or on a phone an error would be out of sight while the choice is unfolded.
    status = gr.HTML(told_of_steps(opened), elem_id="compare-status", container=False, padding=False)
    chips = viewer("chips", chip_groups(opened), elem_id="chips", label="nouns for the prompt")
    columns, negative = model_row(opened, defaults)
    shown = viewer("compare", {"source": url, "study": opened.slug}, elem_id="compare-viewer", label="comparison")
    inputs = [address, prompt, *numbers, negative, *columns]
    events = _Events(context=context, live=live, url=url)
    events.connect(shows, [generate.click, prompt.submit], stop, inputs, status, shown, chips)
    return columns


@dataclass(frozen=True, kw_only=True, eq=False)
class _Events:
    """What the page's clicks and its loading do."""

    context: AppContext
    live: LiveGeneration
    url: str
    """Of the precomputed comparison."""

    def connect(
        self,
        shows: Shows,
        clicks: list[Any],
        stop: gr.Button,
        inputs: list[Any],
        status: gr.HTML,
        shown: Any,
        chips: Any,
    ) -> None:
        """Answer ``clicks`` and ``stop``, and the page's address whenever it names a study anew."""
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        # Not through the queue: Stop must find the click at once, however long the models are busy with others. As it
        # came: Gradio would round numbers and answer another model's name with a traceback; settings_from has words
        # for both.
        clicked = gr.on(
            clicks, self.accept_click, inputs=inputs, outputs=status, trigger_mode="multiple",
            queue=False, preprocess=False, js=send_address(len(inputs)), **quiet,
        )  # fmt: skip
        # Through the queue, because only there a toast reaches the page; it never waits for the models.
        clicked.then(self.tell_of_second_click, concurrency_limit=None, **quiet)
        # What is drawn was kept with the click: the page may have changed while it waited. A click in the moment in
        # which the last one's work ends is put off until then; were every click queued, impatient ones would fill the
        # queue.
        drawn = clicked.then(
            self.generate_live, outputs=[status, shown], trigger_mode="always_last", concurrency_id=MODEL_WORK,
            concurrency_limit=1, **quiet,
        )  # fmt: skip
        drawn.failure(self.tell_of_lost_click, outputs=status, queue=False, **quiet)
        stop.click(self.stop_live, outputs=status, queue=False, **quiet)
        gr.api(program_interface(self.live), api_name="compare", concurrency_id=MODEL_WORK, concurrency_limit=1)
        address, *fields = inputs
        for event, follow in ((shows.loaded, self.open_address), (shows.chosen, self.follow_address)):
            event(
                follow, inputs=address, outputs=[status, shown, chips, *fields], queue=False, js=send_address(1),
                **quiet,
            )  # fmt: skip

    def accept_click(self, request: gr.Request, *values: Any) -> Any:
        """Take the values with the click, if none is at work or waits in this session."""
        waiting = messages.RUNNING_ELSEWHERE if self.live.clicks.is_busy() else messages.WAITING
        accepted = self.live.clicks.accept(str(request.session_hash), values)
        return messages.notice(waiting, kind="working") if accepted else gr.skip()

    def tell_of_second_click(self, request: gr.Request) -> None:
        """A toast for a click that was refused."""
        if self.live.clicks.take_refused(str(request.session_hash)):
            gr.Info(messages.RUNNING_HERE, duration=5)

    def generate_live(self, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        """Draw what was clicked for."""
        session = str(request.session_hash)
        taken = self.live.clicks.take(session)
        if taken is None:  # it was stopped, or an event before this one drew it
            yield gr.skip(), gr.skip()  # gradio empties the outputs of an event that yields nothing
            return
        yield from _generate(self.live, *taken, session)

    def tell_of_lost_click(self, request: gr.Request) -> Any:
        """What the server could not draw is said."""
        lost = self.live.clicks.drop_waiting(str(request.session_hash))
        return messages.notice(messages.LOST, kind="error") if lost else gr.skip()

    def stop_live(self, request: gr.Request) -> Any:
        """End the work after its current step, or forget the click that waits."""
        stopped = self.live.clicks.stop(str(request.session_hash))
        if stopped is None:
            return gr.skip()
        return messages.notice(messages.STOPPED_EARLY if stopped == "waiting" else messages.STOPPING)

    def open_address(self, address: str, request: gr.Request) -> list[Any]:
        """As :meth:`follow_address`; an address that names neither a study nor a comparison changes nothing but the
        columns' choices: models may have been found since the app started."""
        if study_named(address) or "v" in read_address(address):
            return self.follow_address(address, request)
        opened = self.context.study()
        self.live.warm_up(opened)
        return [*[gr.skip()] * (FIELDS + 3 - COLUMN_RANGE[1]), *chooser_updates(opened)]

    def follow_address(self, address: str, request: gr.Request) -> list[Any]:
        """The study that the address names in every input, its other settings too, and what they are in the viewer.

        What the page was drawing for another study ends unseen.
        """
        self.live.clicks.stop(str(request.session_hash), unseen=True)
        opened = None
        try:
            opened = self.context.study(study_named(address))
            self.live.warm_up(opened)
            status, link, *values = read_link(opened, address)
            shown = {"source": self.url, "study": opened.slug} | ({} if link is None else {"link": link})
            return [status, shown, chip_groups(opened), *values]
        except ValueError as error:  # a list of concepts may have been written anew, with a mistake
            words = messages.notice(str(error) if opened is None else opened.in_words(error), kind="error")
            return [words, {"source": self.url, "study": study_named(address)}, *[gr.skip()] * (FIELDS + 1)]


def program_interface(live: LiveGeneration) -> Callable[..., list[str]]:
    """The same comparison for programs: the addresses of the finished columns, in the order of ``models``."""

    def compare(
        request: gr.Request,
        prompt: str,
        models: list[str],
        seed: int = 7,
        steps: int = 20,
        guidance_scale: float = 4.0,
        negative_prompt: str = "",
        study: str = "",
    ) -> list[str]:
        """Draw one prompt with two to four models of a study from the same noise; returns the URL of each column's
        JSON."""
        settings = CompareSettings(
            prompt=prompt, seed=seed, steps=steps, guidance_scale=guidance_scale, negative_prompt=negative_prompt,
            models=tuple(models),
        )  # fmt: skip
        opened = live.context.studies[0]
        try:
            opened = live.context.study(study)
            *_, last = live.run(opened, settings, str(request.session_hash))
        except Exception as error:
            raise gr.Error(opened.in_words(error), print_exception=not is_told(error)) from error
        return list(last.finished)

    return compare


def settings_from(values: tuple[Any, ...]) -> CompareSettings:
    """Settings from the values of the inputs, in their order.

    Raises:
        ValueError: if a number is missing or not whole.
    """
    prompt, seed, steps, guidance_scale, negative_prompt, *models = values
    return CompareSettings(
        prompt=str(prompt or ""),
        seed=_whole("seed", seed),
        steps=_whole("number of denoising steps", steps),
        guidance_scale=_number("guidance scale", guidance_scale),
        negative_prompt=str(negative_prompt or ""),
        models=tuple(str(model) for model in models if model and model != NO_MODEL),
    )


def _generate(
    live: LiveGeneration, values: tuple[Any, ...], stop: StopEvent, session: str
) -> Iterator[tuple[Any, Any]]:
    """Pairs of status and viewer value while the models work; errors become messages.

    Nothing more is shown once the page has gone to another study.
    """
    opened = live.context.studies[0]
    try:
        opened, settings, query = _asked(live.context, values)
    except ValueError as error:  # a UnicodeError is one
        live.clicks.end(session, stop)  # or it would be at work for ever, and every later click be refused
        yield messages.notice(opened.in_words(error), kind="error", title="Nothing was generated."), gr.skip()
        return
    value: dict[str, Any] = {
        "live": True,
        "study": opened.slug,
        "query": query,
        "models": list(settings.models),
        "columns": [""] * len(settings.models),
    }
    drawn = False
    try:
        for update in live.run(opened, settings, session, stop):
            if stop.unseen:
                break
            if update.progress.total is None:
                words = f"Loading {update.progress.task}… (the first time takes a while)"
                yield messages.notice(words, kind="working"), gr.skip()
                continue
            value = {**value, "columns": list(update.finished)}
            drawn = True
            step = {"model": update.progress.task, "done": update.progress.done, "total": update.progress.total}
            yield messages.progress(update.progress), {**value, "progress": step}
    except Exception as error:
        if stop.unseen:
            yield gr.skip() if live.clicks.is_waiting(session) else "", gr.skip()
            return
        # Finished columns stay, and those that will never come say so. Before the first step nothing was changed.
        shown = {**value, "ended": True} if drawn else gr.skip()
        finished = any(value["columns"])
        if type(error).__name__ == "GenerationStopped":
            yield messages.notice(messages.STOPPED if finished else messages.STOPPED_EARLY), shown
            return
        title = "The rest was not generated." if finished else "Nothing was generated."
        yield messages.notice(opened.in_words(error), kind="error", title=title), shown
        if not is_told(error):
            raise
    else:
        # A click accepted since the work ended has its own words there.
        yield (
            gr.skip() if live.clicks.is_waiting(session) else "",
            gr.skip() if stop.unseen else {**value, "ended": True},
        )


def _asked(context: AppContext, values: tuple[Any, ...]) -> tuple[OpenStudy, CompareSettings, str]:
    """The study, the settings and their permalink of the inputs' values, the address first."""
    address, *fields = values
    settings = settings_from(tuple(fields))
    return context.study(study_named(address)), settings, write_permalink(settings)


def chooser_updates(opened: OpenStudy) -> list[dict[str, Any]]:
    """New choices for the column choosers; the first two columns are required."""
    names = opened.checkpoint_names()
    choices = [names if index < COLUMN_RANGE[0] else [NO_MODEL, *names] for index in range(COLUMN_RANGE[1])]
    return [gr.update(choices=offered) for offered in choices]


def read_link(opened: OpenStudy, address: str) -> list[Any]:
    """Status, what the link names, prompt, seed, steps, guidance scale, negative prompt and columns as the page's
    address has them, or as the study's page has them at first.

    What the link names is None where the address names no comparison; else its ``state``: ``drawn`` if the precomputed
    comparison is the one, ``undrawn`` with its ``query``, ``prompt`` and ``models``, or ``unreadable``.
    """
    query = read_address(address)
    if "v" not in query:
        return [told_of_steps(opened), None, *_fields(opened, default_settings(opened))]
    try:
        settings = read_permalink(query, query.getlist("m"), default_settings(opened))
    except ValueError as error:
        status = messages.notice(str(error), kind="error", title="The link cannot be read.")
        return [status, {"state": "unreadable"}, *_fields(opened, default_settings(opened))]
    link = linked_comparison(opened, settings)
    status = ""
    if missing := ", ".join(model["name"] for model in link["models"] if model["missing"]):
        words = f"The link names {missing}: not found here, or broken (see Checkpoints). Choose other models instead."
        status = messages.notice(words, kind="error")
    elif link["state"] == "undrawn":
        status = messages.notice("Settings from the link. Press Generate to draw these pictures.")
    return [status, link, *_fields(opened, settings)]


def _fields(opened: OpenStudy, settings: CompareSettings) -> list[Any]:
    """Values of the inputs, in their order. In place of a missing model stands none, never another."""
    models = [*settings.models, *[NO_MODEL] * COLUMN_RANGE[1]]
    columns = (
        {**update, "value": model if model in update["choices"] else NO_MODEL if index >= COLUMN_RANGE[0] else None}
        for index, (update, model) in enumerate(zip(chooser_updates(opened), models, strict=False))
    )
    numbers = [settings.seed, settings.steps, settings.guidance_scale]
    return [settings.prompt, *numbers, settings.negative_prompt, *columns]


def _whole(name: str, value: Any) -> int:
    number = _number(name, value)
    if not number.is_integer():
        raise ValueError(f"The {name} is {value!r}: expected a whole number.")
    return int(number)


def _number(name: str, value: Any) -> float:
    if value is None:
        raise ValueError(f"The {name} is missing: fill in its field.")
    return float(value)
