"""A picture as a viewer shows it: upright, in 8 bits, over white, in sRGB, and what had to be converted for that.

A model must see what a person sees who checks the data: colours that are hidden under full transparency, or that only a
profile or a gamma value turns into the picture on the screen, would otherwise be a way to hide one picture in another.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from explorer.pairs.quarantine import Reason, UnusableError

BACKGROUND = (255, 255, 255)
"""What transparent pictures are laid over: white, as img2dataset and most viewers of documents do."""
MAX_PROFILE_BYTES = 4 * 2**20
SAME_COLOURS = 4
"""Levels of 255 by which a profile may differ from sRGB and still be taken for it."""
_TIFF_BITS, _TIFF_PHOTOMETRIC, _ORIENTATION = 258, 262, 0x0112


class Conversion(StrEnum):
    """What was done to a picture besides unpacking it; lossless changes of form (grey or palette to RGB) are none."""

    ORIENTATION = "turned upright by EXIF"
    SIXTEEN_BITS = "16-bit grey scaled to 8 bits"
    TRANSPARENCY = "transparency over white"
    CMYK = "CMYK to RGB"
    LAB = "LAB to RGB"
    FIRST_FRAME = "first of several frames"
    PROFILE = "colour profile to sRGB"
    PROFILE_UNUSABLE = "unusable colour profile ignored"
    GAMMA = "gamma to sRGB"


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A decoded picture."""

    pixels: np.ndarray
    """RGB uint8 ``[H, W, 3]``."""
    converted: tuple[Conversion, ...] = ()
    """What had to be converted."""


def as_shown(opened: Image.Image) -> Decoded:
    """The picture that ``opened`` holds, as a viewer shows its first frame.

    Raises:
        UnusableError: if its samples have no range that a viewer would show (32-bit integers, floats).
        Exception: whatever Pillow raises on damaged data.
    """
    done: list[Conversion] = []
    turn = _orientation(opened)  # before loading, by which a TIFF turns by itself
    if getattr(opened, "is_animated", False):
        done.append(Conversion.FIRST_FRAME)
    picture = _with_plain_samples(opened, done)
    picture = _in_srgb(picture, opened, done)
    if picture.mode in ("RGBA", "LA"):
        picture = _over_background(picture.convert("RGBA"), done)
    picture = picture.convert("RGB")
    if turn is not None:
        done.append(Conversion.ORIENTATION)
        picture = picture if opened.format == "TIFF" else picture.transpose(turn)
    return Decoded(pixels=np.array(picture), converted=tuple(done))


def _orientation(opened: Image.Image) -> Image.Transpose | None:
    """By the EXIF data alone, as browsers do; Pillow would believe XMP, too."""
    if opened.format == "TIFF":
        found = opened.tag_v2.get(_ORIENTATION)
    else:
        exif = Image.Exif()
        try:
            exif.load(opened.info.get("exif", b""))
            found = exif.get(_ORIENTATION)
        except Exception:  # damaged EXIF data, which viewers pass over
            return None
    turns = Image.Transpose
    return {
        2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE,
        6: turns.ROTATE_270, 7: turns.TRANSVERSE, 8: turns.ROTATE_90,
    }.get(found)  # fmt: skip


def _with_plain_samples(opened: Image.Image, done: list[Conversion]) -> Image.Image:
    """Mode L, LA, RGB, RGBA, CMYK or LAB, of 8 bits a sample."""
    mode = opened.mode
    if mode.startswith("I;16"):
        return _sixteen_bits(opened, done)
    if mode in ("I", "F"):
        kind = "32-bit integers" if mode == "I" else "floating point numbers"
        raise UnusableError(Reason.UNDEFINED_RANGE, f"samples are {kind}: expected 8 or 16 bits, which have a range")
    if mode in ("La", "RGBa", "PA"):
        return opened.convert("LA" if mode == "La" else "RGBA")
    if mode not in ("LA", "RGBA") and opened.has_transparency_data:
        if mode in ("L", "RGB"):
            opened.info["transparency"] = _transparent_value(opened)
        return opened.convert("RGBA")
    return opened.convert("L") if mode == "1" else opened.convert("RGB") if mode not in _PLAIN else opened


_PLAIN = ("L", "LA", "RGB", "RGBA", "CMYK", "LAB")


def _transparent_value(opened: Image.Image) -> Any:
    """A PNG's transparent grey or colour in the scale of Pillow's samples, which Pillow leaves in the file's."""
    value = opened.info["transparency"]
    raw = str(opened.tile[0].args if opened.tile else "")
    if raw in ("L;2", "L;4"):
        return value * 255 // (2 ** int(raw[-1]) - 1)
    if raw.startswith("RGB;16"):
        raise UnusableError(Reason.UNDEFINED_RANGE, "16-bit colours of which one is transparent: expected 8 bits")
    return value


def _sixteen_bits(opened: Image.Image, done: list[Conversion]) -> Image.Image:
    done.append(Conversion.SIXTEEN_BITS)
    is_tiff = opened.format == "TIFF"
    bits = opened.tag_v2.get(_TIFF_BITS, (16,))[0] if is_tiff else 16
    white_is_zero = is_tiff and opened.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
    values = np.asarray(opened).astype(np.float32)
    grey = np.rint(np.clip(values / (2**bits - 1), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(255 - grey if white_is_zero else grey)
    if (transparent := opened.info.get("transparency")) is not None:
        picture = picture.convert("LA")
        picture.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return picture


def _in_srgb(picture: Image.Image, opened: Image.Image, done: list[Conversion]) -> Image.Image:
    """``picture`` by the file's own profile or gamma value, as browsers show it; its alpha stays."""
    mode = {"LA": "L", "RGBA": "RGB"}.get(picture.mode, picture.mode)
    profile = opened.info.get("icc_profile")
    transform = None
    if profile:
        transform = _to_srgb(profile, mode) if len(profile) <= MAX_PROFILE_BYTES else None
        kind = Conversion.PROFILE_UNUSABLE if transform is None else Conversion.PROFILE
        if transform != "same":
            done.append(kind)
    if mode in ("CMYK", "LAB"):
        done.append(Conversion.CMYK if mode == "CMYK" else Conversion.LAB)
    table = None if profile or "srgb" in opened.info else _gamma_table(opened.info.get("gamma"))
    if table is not None:
        done.append(Conversion.GAMMA)
    elif transform in (None, "same"):
        return picture
    colours = picture.convert(mode) if picture.mode != mode else picture
    shown = colours.point(table * len(mode)) if table is not None else transform.apply(colours)
    if picture.mode != mode:
        shown = shown.convert("RGB")
        shown.putalpha(picture.getchannel("A"))
    return shown


@lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> Any:
    """Pillow's transform to sRGB, ``"same"`` for one that changes nothing to speak of, None where there is none."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode not in ("L", "RGB"):
        return transform
    levels = np.linspace(0, 255, 16).round().astype(np.uint8)
    probe = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    before = Image.fromarray(probe).getchannel(0) if mode == "L" else Image.fromarray(probe)
    change = np.abs(np.asarray(transform.apply(before), int) - np.asarray(before.convert("RGB"), int)).max()
    return "same" if change <= SAME_COLOURS else transform


def _gamma_table(gamma: Any) -> list[int] | None:
    """256 levels as a viewer of gamma 2.2 shows a PNG of another gamma value; None where that is the same."""
    if not isinstance(gamma, float) or gamma <= 0 or abs(gamma * 2.2 - 1) < 0.05:
        return None
    return np.rint(255 * (np.arange(256) / 255) ** (1 / (2.2 * gamma))).astype(int).tolist()


def _over_background(picture: Image.Image, done: list[Conversion]) -> Image.Image:
    if picture.getchannel("A").getextrema() == (255, 255):
        return picture
    done.append(Conversion.TRANSPARENCY)
    return Image.alpha_composite(Image.new("RGBA", picture.size, (*BACKGROUND, 255)), picture)
