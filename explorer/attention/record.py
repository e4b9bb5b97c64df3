"""The attention of a generation, recorded by a ``with`` around it::

    with record(pipeline, "a photo of a dog") as maps:
        image = pipeline("a photo of a dog").images[0]
    maps["dog"]

Which tokens the words are, how many images are drawn, whether they are guided and in how many steps is found out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from explorer.attention.capture import make_capture
from explorer.attention.hooks import Calls, FindCalls
from explorer.attention.maps import AttentionCube
from explorer.attention.prompts import FLUX, denoiser_of, is_joint, prompt_words
from explorer.attention.storage import AttentionCapture
from explorer.attention.words import PromptWords

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PROMPT_ARGUMENTS = ("prompt", "prompt_2", "prompt_3")


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording(Mapping[str, torch.Tensor]):
    """What was recorded so far: ``recording["dog"]`` is the map of the word, ``[h, w]`` fp32 probabilities.

    The mean over all steps and heads and over the layers nearest to 16 x 16; ``map`` selects others, ``cube`` has all.
    """

    words: PromptWords
    """Words of the prompt; the cube's columns are ``words.columns``."""
    capture: AttentionCapture
    """What collects the maps."""

    @property
    def cube(self) -> AttentionCube:
        """Every step, layer and image.

        Raises:
            ValueError: if nothing was drawn inside the block.
        """
        return self.capture.cube()

    def map(self, word: str, size: tuple[int, int] | None = None, **selection: Any) -> torch.Tensor:
        """Map ``[h, w]`` of a word, the sum where it stands several times, or of several in a row (``red hair``).

        Args:
            word: as in the prompt, letter case ignored.
            size: ``(height, width)`` of the result; None for the layers' own.
            **selection: step, layer, head, image and resolution as in ``AttentionCube.maps``.

        Raises:
            KeyError: if the prompt does not hold the word.
            ValueError: as ``AttentionCube.maps``.
        """
        indices = self.words.indices_of(word)
        if not indices:
            raise KeyError(f"the prompt does not hold {word!r}: expected one of {list(self)}")
        return self.cube.map(indices, size, **selection)

    def __getitem__(self, word: str) -> torch.Tensor:
        return self.map(word)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(self.words.words))

    def __len__(self) -> int:
        return len(set(self.words.words))


@contextmanager
def record(
    model: DiffusionPipeline | torch.nn.Module,
    words: str | PromptWords,
    *,
    guidance: bool | None = None,
    gradient: bool = False,
    keep_heads: bool = False,
    text_share: bool = False,
) -> Iterator[Recording]:
    """Record the attention that the image pays to the words of a prompt; pictures are bit-identical to those without.

    Args:
        model: a stock pipeline of SD1, SD2, SDXL, SD3 or Flux, or its denoiser alone.
        words: the prompt that will be drawn or, for a denoiser alone, its ``PromptWords``.
        guidance: for a denoiser alone, whether it is called for the negative prompt too (for a U-Net and SD3 with
            ``[negative, positive]`` rows, for Flux in every second call). A pipeline says so itself.
        gradient: keep the probabilities in the graph, as fp32, so that a loss on maps reaches the text and the weights.
            Stock pipelines draw without gradients: this is for your own loop over the denoiser.
        keep_heads: keep every head, not their mean alone.
        text_share: keep how much of joint attention goes to the text at all (SD3, Flux), see ``AttentionGroup``.

    Yields:
        The maps by word, inside the block or after it. Several generations add up their steps.

    Raises:
        ValueError: if the pipeline draws another prompt than this, calls differ in batch or guidance within the block,
            or the attention cannot be captured.
    """
    target = find_target(model, words, guidance)
    capture = make_capture(
        target.denoiser, target.words.matrix[None], target.find, columns=target.words.columns, keep_heads=keep_heads,
        dtype=torch.float32 if gradient else torch.float16, text_share=text_share, gradient=gradient,
    )  # fmt: skip
    with capture.attached(), target.drawing(lambda: None):
        yield Recording(words=target.words, capture=capture)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is recorded or edited."""

    denoiser: torch.nn.Module
    words: PromptWords
    find: FindCalls
    """How the denoiser is called."""
    drawing: Callable[[Callable[[], None]], Any]
    """A block in which a function is called when a pipeline begins to draw."""


def find_target(model: DiffusionPipeline | torch.nn.Module, words: str | PromptWords, guidance: bool | None) -> Target:
    """The denoiser, the words' positions and how the denoiser will be called; see ``record``."""
    if isinstance(model, torch.nn.Module):
        return _bare_target(model, words, guidance)
    if not is_joint(model) and not hasattr(model, "unet"):
        raise ValueError(f"a {type(model).__name__} is given: expected a pipeline of SD1, SD2, SDXL, SD3 or Flux")
    if guidance is not None:
        raise ValueError(f"guidance is {guidance}: a {type(model).__name__} says itself whether it is guided")
    words = prompt_words(model, words) if isinstance(words, str) else words
    begun: list[bool] = []

    def find(rows: int) -> Calls:
        if not begun:
            raise ValueError("the denoiser was called without its pipeline: record or edit the denoiser itself")
        guided = None if type(model).__name__ == FLUX else bool(model.do_classifier_free_guidance)
        return Calls(batch=max(1, rows // (2 if guided else 1)), guidance=guided, steps=max(1, model.num_timesteps))

    def drawing(started: Callable[[], None]) -> Any:
        return _drawing(model, words.prompt, lambda: (begun.append(True), started()))

    return Target(denoiser=denoiser_of(model), words=words, find=find, drawing=drawing)


def _bare_target(denoiser: torch.nn.Module, words: str | PromptWords, guidance: bool | None) -> Target:
    name = type(denoiser).__name__
    if not isinstance(words, PromptWords):
        raise ValueError(f"words are {words!r}: a {name} has no tokenizer, expected PromptWords (prompt_words)")
    if guidance is None:
        raise ValueError(f"guidance is None: a {name} does not say whether it is guided, expected True or False")
    halves = 2 if guidance and "Flux" not in name else 1
    return Target(
        denoiser=denoiser, words=words, drawing=lambda started: nullcontext(),
        find=lambda rows: Calls(batch=max(1, rows // halves), guidance=guidance, steps=1),
    )  # fmt: skip


@contextmanager
def _drawing(pipeline: DiffusionPipeline, prompt: str, started: Callable[[], None]) -> Iterator[None]:
    """Call ``started`` whenever the pipeline begins to draw; refuse another prompt, whose maps would bear wrong names.

    A stock pipeline checks its inputs first, which is where this listens.
    """
    known, stock = "check_inputs" in vars(pipeline), pipeline.check_inputs
    signature = inspect.signature(stock)

    def check_inputs(*arguments: Any, **keywords: Any) -> Any:
        given = signature.bind(*arguments, **keywords).arguments
        for value in (given.get(name) for name in PROMPT_ARGUMENTS):
            for text in [value] if isinstance(value, str) else value or ():
                if text != prompt:
                    raise ValueError(f"the pipeline draws {text!r}: expected {prompt!r}, whose words were asked for")
        started()
        return stock(*arguments, **keywords)

    check_inputs.__signature__ = signature
    pipeline.check_inputs = check_inputs
    try:
        yield
    finally:
        if known:
            pipeline.check_inputs = stock
        else:
            del pipeline.check_inputs
