"""The screen *Compare*: one prompt, one seed, two to four models side by side with their attention."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from explorer.iconworld.grammar import photo_of
from explorer.ui.screens.compare.controls import chips, model_row, prompt_row
from explorer.ui.screens.compare.payload import linked_comparison, precomputed_comparison
from explorer.ui.shell import messages
from explorer.ui.shell.concepts import read_world_concepts
from explorer.ui.shell.context import is_told
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
    from explorer.ui.shell.context import AppContext

MODEL_WORK = "model-work"


def build_compare_screen(context: AppContext, live: LiveGeneration, blocks: gr.Blocks) -> list[gr.Dropdown]:
    """Build the screen inside the current Blocks and wire it; returns the column choosers."""
    url = context.add_payload("compare", lambda: precomputed_comparison(context))
    defaults = default_settings(context)
    prompt, numbers, generate, stop = prompt_row(defaults)
    chips(read_world_concepts(context), prompt)
    columns, negative = model_row(context, defaults)
    status = gr.HTML("", elem_id="compare-status", container=False, padding=False)
    shown = viewer("compare", {"source": url}, elem_id="compare-viewer", label="comparison")
    inputs = [prompt, *numbers, negative, *columns]
    events = _Events(context=context, live=live, url=url, defaults=defaults)
    events.connect(blocks, [generate.click, prompt.submit], stop, inputs, status, shown)
    return columns


@dataclass(frozen=True, kw_only=True, eq=False)
class _Events:
    """What the page's clicks and its loading do."""

    context: AppContext
    live: LiveGeneration
    url: str
    """Of the precomputed comparison."""
    defaults: CompareSettings

    def connect(
        self,
        blocks: gr.Blocks,
        clicks: list[Any],
        stop: gr.Button,
        inputs: list[Any],
        status: gr.HTML,
        shown: Any,
    ) -> None:
        """Answer ``clicks`` and ``stop``, and the page's address once it is loaded."""
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        # Not through the queue: Stop must find the click at once, however long the models are busy with others. As it
        # came: Gradio would round numbers and answer another model's name with a traceback; settings_from has words
        # for both.
        clicked = gr.on(
            clicks, self.accept_click, inputs=inputs, outputs=status, trigger_mode="multiple",
            queue=False, preprocess=False, **quiet,
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
        blocks.load(self.follow_link, outputs=[status, shown, *inputs], queue=False, **quiet)

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
        if taken := self.live.clicks.take(session):  # a second click, or one that was stopped, has nothing to do here
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

    def follow_link(self, request: gr.Request) -> list[Any]:
        """The address's settings in the inputs, and what it names in the viewer."""
        self.live.warm_up()
        status, link, *values = read_link(self.context, request, self.defaults)
        return [status, gr.skip() if link is None else {"source": self.url, "link": link}, *values]


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
    ) -> list[str]:
        """Draw one prompt with two to four models from the same noise; returns the URL of each column's JSON."""
        settings = CompareSettings(
            prompt=prompt, seed=seed, steps=steps, guidance_scale=guidance_scale, negative_prompt=negative_prompt,
            models=tuple(models),
        )  # fmt: skip
        try:
            *_, last = live.run(settings, str(request.session_hash))
        except Exception as error:
            raise gr.Error(live.context.in_words(error), print_exception=not is_told(error)) from error
        return list(last.finished)

    return compare


def default_settings(context: AppContext) -> CompareSettings:
    """Settings of the page without a permalink: those of the precomputed comparison where there is one."""
    names = context.checkpoint_names()
    models = tuple(names) if len(names) <= COLUMN_RANGE[1] else (names[0], names[1], names[len(names) // 2], names[-1])
    concepts = read_world_concepts(context)
    concept = "turtle" if "turtle" in concepts.concepts or not concepts.concepts else concepts.concepts[0]
    defaults = CompareSettings(prompt=photo_of(concept), models=models)
    try:
        columns = precomputed_comparison(context)["columns"]
    except ValueError:  # the viewer shows why; a ManifestError is a ValueError
        return defaults
    known = tuple(column["model"] for column in columns if column["model"] in names)
    return CompareSettings(**columns[0]["settings"], models=known or models)


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
    live: LiveGeneration, values: tuple[Any, ...], stop: threading.Event, session: str
) -> Iterator[tuple[Any, Any]]:
    """Pairs of status and viewer value while the models work; errors become messages."""
    try:
        settings = settings_from(values)
        value: dict[str, Any] = {
            "live": True,
            "query": write_permalink(settings),
            "models": list(settings.models),
            "columns": [""] * len(settings.models),
        }
    except ValueError as error:  # a UnicodeError is one
        live.clicks.end(session, stop)  # or it would be at work for ever, and every later click be refused
        yield messages.notice(live.context.in_words(error), kind="error", title="Nothing was generated."), gr.skip()
        return
    drawn = False
    try:
        for update in live.run(settings, session, stop):
            if update.progress.total is None:
                words = f"Loading {update.progress.task}… (the first time takes a while)"
                yield messages.notice(words, kind="working"), gr.skip()
                continue
            shown = messages.progress(update.progress)
            value = {**value, "columns": list(update.finished)}
            drawn = True
            yield shown, value
    except Exception as error:
        # Finished columns stay, and those that will never come say so. Before the first step nothing was changed.
        shown = {**value, "ended": True} if drawn else gr.skip()
        finished = any(value["columns"])
        if type(error).__name__ == "GenerationStopped":
            yield messages.notice(messages.STOPPED if finished else messages.STOPPED_EARLY), shown
            return
        title = "The rest was not generated." if finished else "Nothing was generated."
        yield messages.notice(live.context.in_words(error), kind="error", title=title), shown
        if not is_told(error):
            raise
    else:
        # A click accepted since the work ended has its own words there.
        yield gr.skip() if live.clicks.is_waiting(session) else "", {**value, "ended": True}


def chooser_updates(context: AppContext) -> list[dict[str, Any]]:
    """New choices for the column choosers; the first two columns are required."""
    names = context.checkpoint_names()
    choices = [names if index < COLUMN_RANGE[0] else [NO_MODEL, *names] for index in range(COLUMN_RANGE[1])]
    return [gr.update(choices=offered) for offered in choices]


def read_link(context: AppContext, request: gr.Request, defaults: CompareSettings) -> list[Any]:
    """Status, what the link names, prompt, seed, steps, guidance scale, negative prompt and columns as the page's
    address has them.

    What the address does not say is left alone, but for the columns' choices: models may have been found since. What
    the link names is None where the address names no comparison; else its ``state``: ``drawn`` if the precomputed
    comparison is the one, ``undrawn`` with its ``query``, ``prompt`` and ``models``, or ``unreadable``.
    """
    query = request.query_params
    updates = chooser_updates(context)
    unchanged = [gr.skip()] * 5
    if "v" not in query:
        return [gr.skip(), None, *unchanged, *updates]
    try:
        settings = read_permalink(query, query.getlist("m"), defaults)
    except ValueError as error:
        status = messages.notice(str(error), kind="error", title="The link cannot be read.")
        return [status, {"state": "unreadable"}, *unchanged, *updates]
    link = linked_comparison(context, settings)
    status = ""
    if missing := ", ".join(model["name"] for model in link["models"] if model["missing"]):
        words = f"The link names {missing}: not found here, or broken (see Checkpoints). Choose other models instead."
        status = messages.notice(words, kind="error")
    elif link["state"] == "undrawn":
        status = messages.notice("Settings from the link. Press Generate to draw these pictures.")
    models = [*settings.models, *[NO_MODEL] * COLUMN_RANGE[1]]
    return [
        status,
        link,
        settings.prompt,
        settings.seed,
        settings.steps,
        settings.guidance_scale,
        settings.negative_prompt,
        # In place of a missing model stands none, never another.
        *(
            {**update, "value": model if model in update["choices"] else NO_MODEL if index >= COLUMN_RANGE[0] else None}
            for index, (update, model) in enumerate(zip(updates, models, strict=False))
        ),
    ]


def _whole(name: str, value: Any) -> int:
    number = _number(name, value)
    if not number.is_integer():
        raise ValueError(f"The {name} is {value!r}: expected a whole number.")
    return int(number)


def _number(name: str, value: Any) -> float:
    if value is None:
        raise ValueError(f"The {name} is missing: fill in its field.")
    return float(value)
