"""One writer a folder: a lock file that names the process which holds it, free again once that process is dead."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_NAME = ".writing.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made if need be (and removed again if it stays empty), against every other process.

    The system gives the file's lock (``flock``) back when the process that holds it ends, however it ends: a file that
    a killed process left behind is taken over, even where its pid names another process by now.

    Raises:
        ValueError: naming the process that writes there and its machine, or if the folder cannot be locked.
    """
    try:
        import fcntl
    except ModuleNotFoundError as error:
        raise ValueError(f"{folder} cannot be locked: this system has no flock, expected Linux or macOS") from error

    made, path = not folder.exists(), folder / LOCK_NAME
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held to the end
        except FileNotFoundError:  # whoever made the folder has left it empty and removed it
            continue
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with stream:
                raise ValueError(
                    f"{folder} is being written by {_holder(path)}: expected no other process; wait for it or end it"
                ) from error
        except OSError as error:
            with stream:
                raise ValueError(f"{folder} cannot be locked: its file system answers {error.strerror!r}") from error
        if _is_the_file(stream.fileno(), path):
            break
        stream.close()  # the one before removed it between our opening and locking it
    with stream:
        try:
            stream.truncate(0)
            json.dump({"pid": os.getpid(), "machine": socket.gethostname()}, stream)
            stream.flush()
            yield
        finally:
            path.unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # something lies there: what it was made for
                    folder.rmdir()


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['machine']}"
    except (OSError, ValueError, KeyError):  # it has the lock, and has not written its name yet
        return "another process"


def _is_the_file(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
