"""Pipelines from the Hugging Face hub, fetched once into a checkpoint folder, and only when a person asks for one.

Nothing here runs at start-up, in a scan or in ``load_pipeline``: those know local files alone. What is fetched is
safetensors, JSON and tokenizer text, never code and never a pickle. The manifest records the exact commit and the
SHA-256 of every file, so that the folder is an ordinary checkpoint afterwards, with no network needed.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, errors, hf_hub_download

from explorer.checkpoints.kinds.pipeline_folder import PIPELINE_CLASSES
from explorer.checkpoints.model_folder import INDEX_NAME
from explorer.checkpoints.registry import MANIFEST_KIND, Checkpoint, read_checkpoint
from explorer.checkpoints.weight_files import HALF_VARIANT, PICKLE_SUFFIXES, WEIGHT_STEMS, read_json
from explorer.core.provenance import write_manifest

TEXT_SUFFIXES = (".json", ".txt")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_HUB_ID = re.compile(r"(?P<owner>[\w-][\w.-]*)/(?P<name>[\w-][\w.-]*)(@(?P<revision>[\w-][\w./-]*))?")


class HubError(ValueError):
    """A pipeline cannot be fetched from the hub; one sentence says why."""


@dataclass(frozen=True, kw_only=True)
class HubId:
    """A repository on the hub, at a branch, tag or commit."""

    repository: str
    """``owner/name``."""
    revision: str = "main"
    """Branch, tag or commit hash."""

    @property
    def folder_name(self) -> str:
        """Name of the folder it is fetched into: no slash, one name a revision."""
        revision = "" if self.revision == "main" else f"@{self.revision.replace('/', '-')}"
        return f"{self.repository.replace('/', '--')}{revision}"


def parse_hub_id(text: str) -> HubId:
    """Read ``owner/name`` or ``owner/name@revision``.

    Raises:
        HubError: for anything else, paths and addresses included.
    """
    found = _HUB_ID.fullmatch(text.strip())
    if found is None or ".." in text:
        raise HubError(f"hub id is {text!r}: expected owner/name or owner/name@revision")
    return HubId(repository=f"{found['owner']}/{found['name']}", revision=found["revision"] or "main")


def fetch_pipeline(hub_id: str, root: Path | str, *, half: bool = False, endpoint: str | None = None) -> Checkpoint:
    """Fetch a diffusers pipeline into a new folder of ``root``. Calling this is the opt-in to the network.

    Args:
        hub_id: ``owner/name`` or ``owner/name@revision``.
        root: the folder that holds checkpoints.
        half: fetch ``*.fp16.safetensors`` where there are any, half the size.
        endpoint: address of the hub; None for the library's own.

    Returns:
        The checkpoint, of kind ``hub``.

    Raises:
        HubError: if the folder exists, the hub cannot be reached, the repository is missing or closed, holds no
            Stable Diffusion pipeline, or a component comes as a pickle only. ``root`` is unchanged then.
    """
    identifier = parse_hub_id(hub_id)
    target = Path(root) / identifier.folder_name
    if target.exists():
        raise HubError(f"{target} exists: {hub_id} was fetched already")
    with _hub_errors(hub_id):
        commit, names = _list_files(identifier, endpoint)
    if INDEX_NAME not in names:
        raise HubError(f"{hub_id} has no {INDEX_NAME}: expected a diffusers pipeline folder")
    Path(root).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".fetch-") as temporary:
        folder = Path(temporary) / "pipeline"
        with _hub_errors(hub_id):
            _download(identifier.repository, commit, [INDEX_NAME], folder, endpoint)
        index = read_json(folder / INDEX_NAME)
        kind = index.get("_class_name")
        if kind not in PIPELINE_CLASSES:
            raise HubError(f"{hub_id} is a {kind}: expected one of {', '.join(PIPELINE_CLASSES)}")
        wanted = wanted_files(names, index, half=half)
        with _hub_errors(hub_id):
            _download(identifier.repository, commit, wanted, folder, endpoint)
        origin = {"repository": identifier.repository, "revision": identifier.revision, "commit": commit}
        files = [INDEX_NAME, *wanted]
        write_manifest(folder, kind=MANIFEST_KIND, config={"hub": origin}, seed=None, files=files)
        os.replace(folder, target)
    return read_checkpoint(target, root=Path(root))


def wanted_files(names: Iterable[str], index: dict[str, Any], *, half: bool = False) -> list[str]:
    """Which files a pipeline's components take: JSON and tokenizer text, and one set of safetensors each.

    Repositories hold more than that: other formats and older versions of a component in folders of their own.

    Args:
        names: every file of the repository.
        index: its ``model_index.json``, which names the components.
        half: prefer the half-precision variant where there is one.

    Raises:
        HubError: if a component has pickles only.
    """
    components = _named_components(index)
    folders: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        path = PurePosixPath(name)
        if len(path.parts) == 2 and path.parts[0] in components and ".." not in path.parts:
            folders.setdefault(path.parts[0], []).append(name)
    wanted = []
    for folder, inside in folders.items():
        wanted += [name for name in inside if name.endswith(TEXT_SUFFIXES) and ".index." not in name]
        wanted += _weights_of(folder, inside, half)
    return sorted(wanted)


def _named_components(index: dict[str, Any]) -> set[str]:
    """Folders of the components that ``model_index.json`` gives a library and a class, but for the safety checker,
    which nothing here runs."""
    named = {
        name
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)
    }
    return named - {"safety_checker"}


def _weights_of(folder: str, names: list[str], half: bool) -> list[str]:
    """The safetensors of one variant, shards and their index included; empty for a folder without weights."""
    variants: dict[str | None, list[str]] = {None: [], HALF_VARIANT: []}
    for name in names:
        file = PurePosixPath(name).name
        if file.startswith(WEIGHT_STEMS) and (file.endswith(".safetensors") or ".safetensors.index." in file):
            variant = re.search(r"\.(fp16|non_ema|bf16|fp32)\b", file)
            variants.setdefault(variant[1] if variant else None, []).append(name)
    order = (HALF_VARIANT, None) if half else (None, HALF_VARIANT)
    found = next((variants[variant] for variant in order if variants[variant]), [])
    single = [name for name in found if name.endswith(".safetensors") and not _SHARD.search(name)]
    if single:  # shards beside it hold the same once more, and a folder with both is refused
        found = single
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    if not found and pickles:
        raise HubError(
            f"{folder} comes as a pickle only ({PurePosixPath(pickles[0]).name}), which can run any code when opened: "
            "expected .safetensors"
        )
    return found


def _list_files(identifier: HubId, endpoint: str | None) -> tuple[str, list[str]]:
    """The commit that a revision stands for now, and the repository's files."""
    info = HfApi(endpoint=endpoint).model_info(identifier.repository, revision=identifier.revision)
    return str(info.sha), [sibling.rfilename for sibling in info.siblings or []]


def _download(repository: str, commit: str, names: list[str], folder: Path, endpoint: str | None) -> None:
    for name in names:
        hf_hub_download(repository, name, revision=commit, local_dir=folder, endpoint=endpoint)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the library's own notes on the download


@contextmanager
def _hub_errors(hub_id: str) -> Iterator[None]:
    """The library's many errors as one sentence each."""

    def refusal(reason: str, error: Any) -> HubError:
        return HubError(
            f"{hub_id} cannot be fetched: {reason} ({str(error).splitlines()[0] if str(error) else error!r})"
        )

    try:
        yield
    except errors.GatedRepoError as error:
        raise refusal("its owner asks for an agreement first; accept it on the hub and log in", error) from error
    except errors.RepositoryNotFoundError as error:
        raise refusal("there is no such repository, or it is private", error) from error
    except errors.RevisionNotFoundError as error:
        raise refusal("it has no such revision", error) from error
    except errors.OfflineModeIsEnabled as error:
        raise refusal("offline mode is switched on (HF_HUB_OFFLINE)", error) from error
    except errors.HfHubHTTPError as error:
        raise refusal("the hub answered with an error", error) from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise refusal("the hub cannot be reached from this machine", error) from error
    except OSError as error:
        raise refusal("a file could not be written", error) from error
