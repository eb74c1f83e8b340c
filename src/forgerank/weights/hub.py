"""Shared networks: a folder, or a repository on a hub, with tensors, description and model card.

Networks are saved with a complete `forgerank.json`, as `forgerank export` writes it; the `weights.json` of a
training run is read too.
"""

import hashlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, ModelHubMixin, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from forgerank.files import check_regular, os_reason, write_together
from forgerank.labels import VOCABULARIES
from forgerank.types import InputError
from forgerank.weights.card import model_card
from forgerank.weights.description import (
    METADATA_FILE,
    file_entry,
    find_description,
    read_description,
    read_file,
    sealed_json,
)

if TYPE_CHECKING:
    from forgerank.model.config import ModelConfig

TENSORS, CARD = "forgerank.safetensors", "README.md"

# A zip archive ends with a record of _END_LENGTH bytes, its comment's length the last two, and the comment.
_END_MARK, _END_LENGTH = b"PK\x05\x06", 22
_SEAL_MARK = b"sha256:"
_SEAL_LENGTH = len(_SEAL_MARK) + 64

# The base of the client's own errors is that of the library it talks HTTP with.
_HUB_FAILURES = (OSError, ValueError, cast(type[Exception], HfHubHTTPError.__mro__[1]))


class Shareable(ModelHubMixin, library_name="forgerank"):
    """Gives a network `from_pretrained`, `save_pretrained` and `push_to_hub`.

    A class that inherits it, beside `nn.Module`, is built from one `config_type` and keeps it as `config`.
    """

    config_type: ClassVar[type["ModelConfig"]]
    config: "ModelConfig"
    # read with the tensors; replace it (never change it in place) before sharing a network trained since
    description: Mapping[str, Any] = {}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """The network of a folder, of a run's .safetensors, or of a repository such as `name/weights`.

        It is in evaluation mode, on the CPU, with its `description`. Tensors are read from safetensors only;
        the description's seal and the tensors' hash are checked. Raises InputError, one line, for weights
        that are missing, damaged, changed or of another kind, and for a hub that cannot be reached.
        """
        if model_kwargs:
            raise TypeError(f"the folder decides on the network: unexpected {', '.join(model_kwargs)}")
        place = Path(pretrained_model_name_or_path)
        path = find_description(place)
        file = None if path is None or place.is_dir() else place
        if path is None:
            path = _download(
                str(pretrained_model_name_or_path),
                revision=revision,
                force_download=force_download,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
        description = read_description(path)
        return cls._build(path, description, read_tensors(path, description, file=file))

    @classmethod
    def _build(cls, path: Path, description: dict[str, Any], state: dict[str, torch.Tensor]) -> Self:
        try:
            config = cls.config_type.model_validate(description["settings"]["model"])
        except (KeyError, TypeError, ValidationError) as error:
            raise InputError(f"{path}: does not say which network this is") from error
        network: Any = cls(config.model_copy(update={"pretrained": False}))
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = f"{path}: the tensors of its {config.kind} network do not fit {cls.__name__}"
            raise InputError(reason) from error
        network.config, network.description = config, description
        _set_normalisation(network, description.get("normalisation"))
        return cast(Self, network.eval())

    def _save_pretrained(self, save_directory: Path) -> None:
        content = self._content()
        description = sealed_json(self._describe(content))
        write_together({save_directory / TENSORS: content, save_directory / METADATA_FILE: description})

    def generate_model_card(self, *args: Any, **options: Any) -> ModelCard:
        """The card that `save_pretrained` writes; `model_card_kwargs` are options of `model_card`."""
        return ModelCard(model_card(self._describe(self._content()), **options))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """`save_pretrained` to a repository, made where it is missing; returns the address of the commit.

        `options` are those of `ModelHubMixin.push_to_hub`: private, token, branch, create_pr, commit_message,
        model_card_kwargs and so on. Raises InputError, one line, where the hub cannot be reached or refuses.
        """
        with hub_errors(f"{repo_id}: cannot be pushed"):
            return super().push_to_hub(repo_id, **options)

    def _content(self) -> bytes:
        return safetensors_bytes(cast(nn.Module, self).state_dict())

    def _describe(self, tensors: bytes) -> dict[str, Any]:
        """A complete description; what was not measured has its neutral value."""
        config, count = self.config, self.config.components
        names = VOCABULARIES["components"] if count == 5 else [f"label {i}" for i in range(1, count + 1)]
        neutral = {
            "name": "forgerank",
            "version": "0",
            "order": "first_to_last",
            "labels": VOCABULARIES["binary"] if count == 1 else names,
            "thresholds": {"forged": 0.5, "real": 0.5, "components": [0.5] * count},
            "calibration": {"slope": 1.0, "intercept": 0.0},
            "tau": 0.1,
            "metrics": {},
            "settings": {},
            "git_revision": "",
            "licence": "not stated",
        }
        described = {**neutral, **self.description}
        described.pop("seal", None)  # that of the values as they were read
        described["settings"] = {**described["settings"], "model": config.model_dump(mode="json")}
        described |= {"input_size": config.input_size, "zoom": config.zoom}
        described |= {"normalisation": normalisation(cast(Any, self))}
        described["files"] = {"safetensors": {"file": TENSORS, "sha256": hashlib.sha256(tensors).hexdigest()}}
        return described


def safetensors_bytes(state: Mapping[str, torch.Tensor]) -> bytes:
    """The content of a .safetensors file for a state dict on any device."""
    return save({name: value.detach().cpu().contiguous() for name, value in state.items()})


def push_folder(folder: Path, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
    """Upload an exported folder, ONNX included, with its model card; returns the address of the commit.

    Only the files that its forgerank.json lists are uploaded, after their hashes were checked, and its
    README.md, if it has one. Raises InputError, one line, for files that do not fit and errors of the hub.
    """
    path = folder / METADATA_FILE
    if not path.is_file():
        raise InputError(f"{folder}: holds no {METADATA_FILE}; forgerank export writes a folder with one")
    description = read_description(path)
    for kind in description["files"]:
        read_file(path, description, kind)
    content: dict[str, Path | bytes] = {METADATA_FILE: path}
    content |= {entry["file"]: folder / entry["file"] for entry in description["files"].values()}
    card = folder / CARD
    content[CARD] = card if card.exists() else model_card(description).encode()
    with hub_errors(f"{repo_id}: cannot be pushed"):
        api = HfApi(token=token)
        commit = api.create_commit(
            repo_id=api.create_repo(repo_id, private=private, exist_ok=True).repo_id,
            operations=[CommitOperationAdd(name, source) for name, source in content.items()],
            commit_message=f"{description.get('name', 'forgerank')} {description.get('version', '')}".strip(),
        )
    return str(commit.commit_url)


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turns the errors of the hub's client into InputError, one line that begins with `what`."""
    try:
        yield
    except _HUB_FAILURES as error:
        raise InputError(f"{what} ({' '.join(str(error).split())[:200]})") from error


def _download(repo_id: str, *, revision: str | None, **options: Any) -> Path:
    """Download description and tensors; returns the path of the description.

    Without a connection the files of an earlier download are used.
    """
    with hub_errors(f"{repo_id}: no such folder, and not to be had from a hub"):
        try:
            if not options["local_files_only"]:  # asked first: a download would try for half a minute
                HfApi(token=options["token"]).model_info(repo_id, revision=revision)
        except (HfHubHTTPError, HFValidationError):
            raise
        except _HUB_FAILURES:
            options["local_files_only"] = True
        path = Path(hf_hub_download(repo_id, METADATA_FILE, revision=revision, **options))
        tensors = file_entry(path, read_description(path), "safetensors").file
        hf_hub_download(repo_id, tensors, revision=revision, **options)
    return path


def read_tensors(
    path: Path, description: Mapping[str, Any], *, file: Path | None = None
) -> dict[str, torch.Tensor]:
    """The tensors of the description at `path`, or those of `file`; the arguments are those of `read_file`.

    Raises InputError as `read_file` does, and for a file that is not safetensors.
    """
    try:
        return load(read_file(path, description, "safetensors", file=file))
    except SafetensorError as error:
        raise InputError(f"{file or path.parent}: cannot be read as safetensors: {error}") from error


def load_state(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Give a network its tensors. Raises InputError, which names `path` and the first that does not fit."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        _, *reasons = (line.strip() for line in str(error).splitlines())
        raise InputError(f"{path}: does not fit its own settings: {reasons[0]}") from error


def sealed_checkpoint(checkpoint: Mapping[str, Any]) -> bytes:
    """The content of a checkpoint file: torch's archive whose comment is the SHA-256 of all before it."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    archive = buffer.getbuffer()
    digest = hashlib.sha256(archive[:-2])
    length = _SEAL_LENGTH.to_bytes(2, "little")
    digest.update(length)
    return b"".join((archive[:-2], length, _SEAL_MARK, digest.hexdigest().encode()))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The values of a checkpoint of forgerank, tensors on the CPU, after a check of its hash.

    Raises InputError, one line, for a file that is missing, damaged or foreign. Earlier versions wrote no
    hash: for one release their checkpoints are read, after a check of their CRC-32, with a warning.
    """
    try:
        sealed = _check_seal(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript, which is refused
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({os_reason(error)})") from None
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: no checkpoint of forgerank (it holds more than tensors and values)"
        ) from None
    except (RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _damaged(path) from error
    if not isinstance(checkpoint, dict) or "settings" not in checkpoint:
        raise InputError(f"{path}: no checkpoint of forgerank (it holds no settings)")
    if not sealed:
        Console(stderr=True).print(
            Text(f"{path}: carries no hash, as checkpoints of earlier versions; only its CRC-32 was checked"),
            soft_wrap=True,
        )
    return checkpoint


def _check_seal(path: Path) -> bool:
    """Whether a checkpoint carries a hash. Raises InputError for a wrong one or none of both kinds."""
    check_regular(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_LENGTH - _SEAL_LENGTH))
        tail = file.read()
        file.seek(0)
        if tail[:4] == _END_MARK and tail[_END_LENGTH:].startswith(_SEAL_MARK):
            digest, left = hashlib.sha256(), size - _SEAL_LENGTH
            while part := file.read(min(left, 1 << 20)):
                digest.update(part)
                left -= len(part)
            if tail[_END_LENGTH:] != _SEAL_MARK + digest.hexdigest().encode():
                raise InputError(f"{path}: its SHA-256 differs from the one that it carries: it is damaged")
            return True
        if tail[-_END_LENGTH:][:4] != _END_MARK or tail[-2:] != b"\0\0":
            raise _damaged(path)
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                raise _damaged(path)
    return False


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: truncated, damaged or no checkpoint")


def normalisation(network: Any) -> dict[str, tuple[float, ...]]:
    """Mean and standard deviation per channel of RGB in 0..1; the network applies them itself."""
    parts = {"mean": network.backbone.mean, "std": network.backbone.std}
    return {name: tuple(round(float(v), 6) for v in part.flatten()) for name, part in parts.items()}


def _set_normalisation(network: Any, described: Mapping[str, list[float]] | None) -> None:
    """Those of the training, also where timm's defaults have changed since."""
    for name, values in (described or {}).items():
        buffer = getattr(network.backbone, name)
        buffer.copy_(torch.tensor(values).view_as(buffer))
