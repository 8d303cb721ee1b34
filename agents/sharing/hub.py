"""The Hugging Face Hub: pushes what is passed on as a repository, and pulls it, reading no file that could run code."""

import contextlib
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from agents.sharing.bundle import SUFFIXES, Bundle, open_bundle, write_bundle
from agents.sharing.model_card import model_card
from glimpse_env.console.names import pip_extra
from glimpse_env.errors import ConfigurationError, GlimpseError, HubError
from glimpse_env.files import temporary_folder, whole_folder

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
FILE = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
"""Names of files that are pulled: in no folder, none that is hidden."""
CLIENTS = ("httpx", "httpx2", "requests")
"""Packages that versions of huggingface_hub make requests with."""
NO_TOKEN = "the Hub knows no token of yours; log in with `hf auth login` or set HF_TOKEN."
RepoType = Literal["model", "dataset"]


def push(
    what: str | Path, repo: str, *, private: bool = False, message: str | None = None, pictures: bool = True
) -> str:
    """Uploads an agent, a judge, an oracle or demonstrations in one commit, with a page made from its figures.

    The repository is made where there is none: of models, for demonstrations of data sets. The token is the one of
    ``hf auth login`` or ``HF_TOKEN``, the server the one that ``HF_ENDPOINT`` names.

    Args:
        what: see :func:`agents.sharing.bundle.write_bundle`.
        repo: ``"owner/name"``.
        private: whether a new repository is private.
        message: of the commit.
        pictures: whether pictures of a run go with it.

    Returns:
        Its address.

    Raises:
        ConfigurationError: if huggingface_hub is missing, or ``what`` or ``repo`` is none.
        ArtifactError: if files are damaged.
        HubError: if the Hub refuses or cannot be reached.
    """
    api = _api(repo)
    from huggingface_hub import CommitOperationAdd

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = with_page(what, folder, repo, pictures=pictures)
        kind = _type_of(bundle)
        with _hub_errors(repo):
            made = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
            files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
            api.create_commit(
                repo,
                [CommitOperationAdd(path.name, path) for path in files],
                repo_type=kind,
                commit_message=message or f"{bundle.kind.capitalize()} of glimpse-env",
            )
    return str(made)


def with_page(what: str | Path, folder: Path, repo: str, *, pictures: bool = True) -> Bundle:
    """Writes what is pushed into a folder that is there, with its page."""
    bundle = write_bundle(what, folder, pictures=pictures)
    (folder / "README.md").write_text(model_card(bundle, repo), encoding="utf-8")
    return bundle


def pull(repo: str, out: Path, *, revision: str | None = None) -> tuple[Bundle, list[str]]:
    """Downloads what :func:`push` uploaded, whole or not at all.

    Only files with a suffix of :data:`agents.sharing.bundle.SUFFIXES` and in no folder are fetched, and never a zip.
    They are read as JSON, safetensors and NumPy archives without objects, which runs no code, and have to belong to
    each other.

    Args:
        repo: ``"owner/name"``, of models or of data sets.
        out: folder to write, which must not be there.
        revision: branch, tag or commit; default the main branch.

    Returns:
        What is in the folder, and the names of the repository's files that were left out.

    Raises:
        ConfigurationError: if huggingface_hub is missing, ``repo`` is none or ``out`` is there.
        ArtifactError: if the repository holds nothing of ours, or it is damaged.
        HubError: if the Hub refuses or cannot be reached.
    """
    api = _api(repo)
    if out.exists():
        raise ConfigurationError(f"--out {out} is there already; take another folder, or move it away.")
    with _hub_errors(repo):
        kind, commit = _find(api, repo, revision)
        names = sorted(api.list_repo_files(repo, repo_type=kind, revision=commit))
        wanted = [name for name in names if is_pulled(name)]
        with temporary_folder(out) as fetched, whole_folder(out) as folder:
            for name in wanted:
                path = api.hf_hub_download(repo, name, repo_type=kind, revision=commit, local_dir=fetched)
                shutil.copyfile(path, folder / name)
            bundle = open_bundle(folder, f"the repository {repo}")
            bundle.check()
    return Bundle(bundle.kind, out), [name for name in names if name not in wanted]


def is_pulled(name: str) -> bool:
    """Returns whether a file of a repository is fetched: it is of a kind that runs no code, and in no folder."""
    return FILE.fullmatch(name) is not None and PurePosixPath(name).suffix in SUFFIXES


def _api(repo: str) -> Any:
    if not REPO.fullmatch(repo) or ".." in repo:
        raise ConfigurationError(f"{repo!r} is no name of a repository like 'owner/name'.")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ConfigurationError(f"the package huggingface_hub is not installed: {pip_extra('hub')}.") from error
    for client in CLIENTS:
        logging.getLogger(client).setLevel(logging.WARNING)  # else commands print each request
    return HfApi(library_name="glimpse-env")


def _type_of(bundle: Bundle) -> RepoType:
    return "dataset" if bundle.kind == "demonstrations" else "model"


def _find(api: Any, repo: str, revision: str | None) -> tuple[RepoType, str]:
    """Returns the type of a repository and the commit that is pulled, so that all files are of one."""
    from huggingface_hub.errors import RepositoryNotFoundError

    kinds: tuple[RepoType, ...] = ("model", "dataset")
    for kind in kinds:
        with contextlib.suppress(RepositoryNotFoundError):
            return kind, str(api.repo_info(repo, repo_type=kind, revision=revision).sha)
    raise HubError(f"there is no repository {repo} of models or data sets, or you may not see it: `hf auth login`.")


@contextlib.contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into one sentence."""
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise HubError(NO_TOKEN) from error
    except errors.HFValidationError as error:
        raise ConfigurationError(f"{repo!r} is no name of a repository ({error}).") from error
    except GlimpseError:
        raise
    except Exception as error:
        # errors of connections are those of the client that huggingface_hub has: httpx, httpx2, requests
        known = (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, ConnectionError)
        client = type(error).__module__.partition(".")[0] in CLIENTS
        if not isinstance(error, known) and not client and "Error while uploading" not in str(error):
            raise
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            raise HubError(NO_TOKEN) from error
        words = " ".join(str(error).split())[:300].rstrip(".")
        remedy = "see its status, your token and its name"
        if "xet" in words:  # which HF_ENDPOINT's need not have
            remedy = "HF_HUB_DISABLE_XET=1 uploads to a server that has no Xet store"
        raise HubError(f"the Hub did not do it for {repo} ({words}); {remedy}.") from error
