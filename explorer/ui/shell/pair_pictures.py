"""Small pictures of pairs, some at a time as a page asks for them, whatever the pairs are kept as."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from explorer.core.provenance import ManifestError
from explorer.scenarios.pair_set_command import pair_set_command
from explorer.studies.kept_pictures import NotEmbeddedError, open_kept_pictures, pictures_stamp
from explorer.studies.results import SCORES
from explorer.ui.shell.open_study import OpenStudy


class NoPicturesError(ValueError):
    """The pictures are not on this machine."""

    def __init__(self, words: str, command: str):
        """``command`` brings them back; "" where none is known."""
        super().__init__(words)
        self.command = command


def pair_pictures(opened: OpenStudy, arm_name: str, rows: list[int], data_hash: str = "") -> bytes:
    """A PNG of the pairs at ``rows``, squares side by side in that order.

    Args:
        rows: of the arm's table, at most :data:`~explorer.ui.shell.routes.MOST_PICTURES`.
        data_hash: of the pairs that are meant, as results name it; "" for those that lie there now.

    Raises:
        NoPicturesError: if the pictures are not here, or are those of other pairs.
        ValueError: if there is no such arm or row.
    """
    kept = _kept(opened, arm_name)
    if data_hash and not kept.are_known_as(data_hash):
        raise NoPicturesError(
            f"The pairs of {arm_name} are not those that were measured", opened.result_command(SCORES)
        )  # fmt: skip
    squares = kept.read(rows)
    stream = io.BytesIO()
    Image.fromarray(squares.swapaxes(0, 1).reshape(squares.shape[1], -1, 3)).save(stream, "PNG")
    return stream.getvalue()


def are_other_pairs(opened: OpenStudy, arm_name: str, data_hash: str) -> bool:
    """Whether the arm's pairs lie here and are not those that results name by ``data_hash``."""
    try:
        return not _kept(opened, arm_name).are_known_as(data_hash)
    except NoPicturesError:
        return False


def why_no_pictures(opened: OpenStudy, arm_name: str) -> dict[str, str] | None:
    """What a request for the arm's pictures would be answered, ``problem`` and ``command``, so that a page need not ask
    where nothing lies; None where something does. Nothing that lies there is opened, which may take seconds."""
    try:
        if pictures_stamp(opened.study.arm(arm_name), opened.study.folder):
            return None
        _kept(opened, arm_name)
    except NoPicturesError as error:
        return {"problem": f"{error}.", "command": error.command}
    except ValueError as error:
        return {"problem": f"{error}.", "command": ""}
    return None


def _kept(opened: OpenStudy, arm_name: str) -> Any:
    arm, folder = opened.study.arm(arm_name), opened.study.folder
    try:
        return opened.remember(
            ("pictures", arm_name), (arm.pairs, pictures_stamp(arm, folder)), lambda: open_kept_pictures(arm, folder)
        )
    except NotEmbeddedError as error:
        raise NoPicturesError(opened.in_words(error), opened.result_command(SCORES)) from error
    except (FileNotFoundError, ManifestError) as error:
        raise NoPicturesError(opened.in_words(error), pair_set_command(arm) or "") from error
    except (ValueError, OSError) as error:
        raise NoPicturesError(opened.in_words(error), "") from error
