"""Downloads of public data sets from the Hugging Face hub; for the others, the page for requests."""

from pathlib import Path

from forgerank.types import InputError

# Under the account of the data set's first author.
PUBLIC = {"seq-deepfake": "rshaojimmy/Seq-DeepFake"}
ASK = {
    "faceforensics": "https://github.com/ondyari/FaceForensics",
    "dfd": "https://github.com/ondyari/FaceForensics",
    "celebdf": "https://github.com/yuezunli/celeb-deepfakeforensics",
    "dfdc": "https://ai.meta.com/datasets/dfdc/",
    "dfdcpreview": "https://ai.meta.com/datasets/dfdc/",
    "wilddeepfake": "https://github.com/OpenTAI/wild-deepfake",
}
_ARCHIVES = ("*.zip", "*.tar", "*.tar.gz", "*.tgz", "*.7z", "*.rar")


def download(
    dataset: str, out: Path, *, repository: str | None = None, endpoint: str | None = None, workers: int = 4
) -> list[Path]:
    """Copy a public data set into `out`, going on where an earlier attempt stopped.

    repository: another dataset repository of the hub than that of PUBLIC. endpoint: another hub; without it
    the client's own, which the environment variable HF_ENDPOINT sets. Returns the archives among the files,
    which are still to be unpacked.

    Raises InputError for an unknown data set, for one that has to be asked for (naming the page), without a
    connection, and for a repository that is not there or not open.
    """
    if dataset in ASK:
        raise InputError(f"{dataset}: is not given out freely: ask for it at {ASK[dataset]}")
    if dataset not in PUBLIC:
        raise InputError(f"{dataset}: unknown; choose from {', '.join((*PUBLIC, *ASK))}")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    # What the client's HTTP library raises without an answer: a library that changes with its version.
    no_answer: type[Exception] = HfHubHTTPError.__bases__[0]
    name = repository or PUBLIC[dataset]
    api = HfApi(endpoint=endpoint)
    try:
        # Asked first: without an answer, the client would take what already lies in `out` for the data set.
        revision = api.dataset_info(name).sha
        out.mkdir(parents=True, exist_ok=True)
        api.snapshot_download(
            name, repo_type="dataset", revision=revision, local_dir=out, max_workers=workers
        )
    except GatedRepoError:
        raise InputError(f"{name}: has to be asked for at {api.endpoint}/datasets/{name}") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "with an error")
        raise InputError(f"{name}: {api.endpoint} answers {status}; is there such a repository?") from None
    except (no_answer, OfflineModeIsEnabled, ConnectionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: no connection to {api.endpoint} ({reason})") from None
    except (OSError, ValueError) as error:  # the disk; a name that cannot be one
        raise InputError(f"{name}: cannot be copied to {out}: {' '.join(str(error).split())}") from None
    return sorted(path for pattern in _ARCHIVES for path in out.rglob(pattern))
