"""Repositories of the Hugging Face hub: the commit that a recipe means, and one line with the cure where the hub refuses.

A branch moves. So its commit is asked for once in a run: all stages read that commit, and their keys have it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from compress.runtime.errors import UserError, one_line

# A small file of nearly every repository. Asking for it tells the commit, and the hub's client notes it for later without a network.
_ASKED_FOR = {"model": "config.json", "dataset": "README.md"}
_LOAD_ONCE = "load it once with a network and without HF_HUB_OFFLINE"
_GIVE_TOKEN = "give a token that may read it: HF_TOKEN=hf_… in the environment, or `hf auth login`"


@dataclass(frozen=True)
class HubRepository:
    """A model or a data set on the hub, at a branch, tag or commit."""

    kind: Literal["model", "dataset"]
    name: str  # organisation/name
    revision: str | None  # None: the main branch
    setting: str  # that names it, for messages

    @property
    def page(self) -> str:
        """Its address."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


def is_local(name: str) -> bool:
    """Whether a model or data set is meant that lies on the disk, or would if it existed: no hub has such an id."""
    return Path(name).is_dir() or Path(name).is_absolute() or name.startswith((".", "~"))


def pretrained_arguments(name: str, revision: str | None, setting: str) -> dict[str, Any]:
    """The arguments of `from_pretrained` that name a model: its directory, or its id with the commit.

    Code that lies beside a model is never run, and nobody is asked whether it may.

    :param revision: branch, tag or commit of a model of the hub.
    :param setting: that names the model, for messages.
    :raises UserError: as `commit_of`.
    """
    named: dict[str, Any] = {"pretrained_model_name_or_path": name, "trust_remote_code": False}
    return named if is_local(name) else named | {"revision": commit_of(HubRepository("model", name, revision, setting))}


@cache
def commit_of(repository: HubRepository) -> str:
    """The commit that a repository's revision means now: 40 hexadecimal digits.

    Without a network, and with `HF_HUB_OFFLINE=1`, it is the commit that the revision meant when it was loaded last.

    :raises UserError: there is no such repository or revision, the hub wants a token, or the hub cannot be reached and the
        repository was never loaded.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository.name)
    except HFValidationError as error:
        raise _refused(repository, error) from None
    if (unreachable := _out_of_reach()) is not None:
        if (found := _noted_commit(repository)) is None:
            raise _refused(repository, unreachable)
        return found
    asked_for = _ASKED_FOR[repository.kind]
    try:
        path = hf_hub_download(
            repository.name, asked_for, repo_type=repository.kind, revision=repository.revision
        )  # …/snapshots/COMMIT/FILE
        return Path(path).parent.name
    except LocalEntryNotFoundError as error:  # the network was lost, or the hub is in trouble
        found, refusal = _noted_commit(repository), error.__cause__ or error
    except EntryNotFoundError as error:  # the repository has no such file
        found, refusal = _noted_commit(repository), error
    except Exception as error:  # the client of the hub raises many unrelated types
        found, refusal = None, error
    if found is None:
        raise _refused(repository, refusal) from None
    return found


def load_hub_dataset(repository: HubRepository, config: str | None) -> Any:
    """All splits of a data set, as a `datasets.DatasetDict`.

    :param config: for data sets with several configurations.
    :raises UserError: as `commit_of`, or its files cannot be read.
    """
    import datasets

    name, place = repository.name, f"{repository.setting}: {repository.name}"
    local = is_local(name)
    if repository.revision is not None and local:
        raise UserError(f"{place}: is a directory, and only a data set of the hub has revisions")
    try:
        return datasets.load_dataset(name, config) if local else _load_commit(repository, config)
    except UserError:
        raise
    except Exception as error:  # the library raises many unrelated types
        if found := re.search(r"(?:Available|available configs): (\[.*\])", str(error)):
            raise UserError(
                f"{repository.setting}_config: {name} has the configurations {found[1]}; give one"
            ) from None
        cure = f"; {_LOAD_ONCE}" if not local and _out_of_reach() else ""
        raise UserError(f"{place}: cannot be loaded ({one_line(error)}){cure}") from None


def _load_commit(repository: HubRepository, config: str | None) -> Any:
    """All splits of a data set of the hub at the commit of this run.

    :raises UserError: as `commit_of`, or the commit is neither on the hub nor in the cache.
    """
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    name, commit = repository.name, commit_of(repository)
    try:
        if _out_of_reach() is None:
            builder = datasets.load_dataset_builder(name, config, revision=commit)
        else:
            short = name.rpartition("/")[2]
            builder = Cache(repo_id=name, dataset_name=short, config_name=config, version="auto", hash="auto")
        if builder.hash != commit:
            # Whatever goes wrong, the library takes the newest thing in its cache, be it of another revision.
            known = {"config_name": builder.config.name, "version": str(builder.config.version)}
            builder = Cache(repo_id=name, dataset_name=builder.dataset_name, hash=commit, **known)
            if not Path(builder.cache_dir).is_dir():
                raise ConnectionError
        builder.download_and_prepare()
        return builder.as_dataset()
    except ConnectionError:
        raise UserError(
            f"{repository.setting}: {name}: its commit {commit[:10]} is not in the cache of `datasets`, and the hub does not give it now; "
            f"{_LOAD_ONCE}"
        ) from None


@cache
def _out_of_reach() -> Exception | None:
    """Why the hub cannot be reached. It is asked once; the hub's client would try for half a minute, again for each file."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # the client of the hub raises many unrelated types
        return error
    return None


def _noted_commit(repository: HubRepository) -> str | None:
    """The commit that the hub's client noted in its cache for this revision."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository.name, repo_type=repository.kind)
    revision = repository.revision or "main"
    if (note := folder / "refs" / revision).is_file():
        return note.read_text(encoding="utf-8").strip()
    return revision if folder.is_dir() and re.fullmatch("[0-9a-f]{40}", revision) else None


def _refused(repository: HubRepository, error: BaseException) -> UserError:
    """What the hub's client could not do, and the cure."""
    from huggingface_hub import constants, errors, get_token

    place, page = f"{repository.setting}: {repository.name}", repository.page
    status = getattr(getattr(error, "response", None), "status_code", None)
    thing = "data set" if repository.kind == "dataset" else "model"
    if isinstance(error, errors.HFValidationError):
        return UserError(f"{place}: no such directory, and no id of the hub, which is like organisation/name")
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(
            f"{place}: has no revision {repository.revision!r}; {page}/tree/main shows the branches, tags and commits"
        )
    if isinstance(error, errors.GatedRepoError):
        return UserError(f"{place}: is gated; ask for access on {page}, then {_GIVE_TOKEN}")
    if status == 401 and get_token():
        return UserError(
            f"{place}: the hub refuses your token (401); make another one in the settings of your account, then {_GIVE_TOKEN}"
        )
    if status == 401:
        return UserError(
            f"{place}: no such directory, and the hub shows nobody without a token such a {thing} (401): check the id; if it is private, "
            f"{_GIVE_TOKEN}"
        )
    if status == 404:
        return UserError(
            f"{place}: no such directory, and the hub has no such {thing}, or your token may not read it (404); {page} "
            "should be its page"
        )
    if status is not None:
        return UserError(f"{place}: the hub answers {status} ({one_line(error)}); try again later")
    if isinstance(error, errors.OfflineModeIsEnabled):
        what = f"revision {repository.revision!r} of it" if repository.revision else "it"
        return UserError(
            f"{place}: no such directory, and HF_HUB_OFFLINE is set while {what} is not in the cache; unset it for one run, or "
            "copy the cache (HF_HOME) of a machine that has it"
        )
    return UserError(
        f"{place}: no such directory, not in the cache, and {constants.ENDPOINT} cannot be reached ({type(error).__name__}); check the "
        "network, HTTPS_PROXY and HF_ENDPOINT"
    )
