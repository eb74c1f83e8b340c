"""C2PA content credentials of a file: information for the reader of a report, never part of a verdict."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator, BaseModel, Field

from forgerank.extras import MissingExtraError, require
from forgerank.report.entries import ActionEntry, Credentials

# The start of every C2PA manifest store, whatever file it is in: a JUMBF description box with C2PA's UUID.
_STORE = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"
_CHUNK = 1 << 20  # bytes
_LONGEST, _MOST = 200, 100  # characters of one text, actions and ingredients that are listed
# Nothing leaves the machine: no manifest, no certificate status and no time stamp is fetched.
_SETTINGS = {
    "core": {"allowed_network_hosts": []},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}


def read_credentials(source: str | Path | BinaryIO) -> Credentials | None:
    """What the content credentials of a file, or of an open one, say; None where it carries none.

    Never raises for a bad file: information must not cost a verdict. `problem` says why nothing was read.
    """
    try:
        with open(source, "rb") if isinstance(source, (str, Path)) else nullcontext(source) as file:
            if not _carries_store(file):
                return None
            require("c2pa")
            file.seek(0)
            return _read(file)
    except MissingExtraError as error:
        return Credentials(problem=f"not read: {error}")
    except (ImportError, OSError, RuntimeError) as error:  # the file went away, or the library does not load
        return Credentials(problem=f"not read: {_one_line(error)}")


def _carries_store(file: BinaryIO) -> bool:
    tail = b""
    while chunk := file.read(_CHUNK):
        if _STORE in tail + chunk:
            return True
        tail = chunk[-len(_STORE) :]
    return False


def _read(file: BinaryIO) -> Credentials | None:
    import c2pa

    try:
        with c2pa.Context.from_dict(_SETTINGS) as context:
            reader = c2pa.Reader.try_create(file, context=context)
            if reader is None:  # the bytes stood there by chance, or the store is not where it belongs
                return None
            with reader:
                return _credentials(_Store.model_validate_json(reader.json()))
    except (c2pa.C2paError, ValueError, OSError) as error:
        return Credentials(problem=f"damaged: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return _short(" ".join(str(error).split()))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


# The part of the library's JSON that is shown. Anybody can write a manifest: texts are cut.
_Text = Annotated[str, AfterValidator(_short)]


class _Program(BaseModel):
    name: _Text
    version: _Text | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name} {self.version}"


class _Action(BaseModel):
    action: _Text
    when: _Text | None = None
    software: _Program | _Text | None = Field(default=None, alias="softwareAgent")
    source_type: _Text | None = Field(default=None, alias="digitalSourceType")


class _Actions(BaseModel):
    actions: list[_Action] = []


class _Assertion(BaseModel):
    label: str
    data: Any = None


class _Ingredient(BaseModel):
    title: _Text | None = None
    active_manifest: str | None = None


class _Signature(BaseModel):
    issuer: _Text | None = None
    common_name: _Text | None = None
    time: _Text | None = None


class _Manifest(BaseModel):
    title: _Text | None = None
    claim_generator: _Text | None = None
    claim_generator_info: list[_Program] | None = None
    signature_info: _Signature | None = None
    ingredients: list[_Ingredient] = []
    assertions: list[_Assertion] = []


class _Status(BaseModel):
    code: _Text


class _Store(BaseModel):
    active_manifest: str
    manifests: dict[str, _Manifest]
    validation_state: _Text | None = None
    validation_status: list[_Status] | None = None


def _credentials(store: _Store) -> Credentials:
    manifest = store.manifests.get(store.active_manifest)
    if manifest is None:
        return Credentials(problem="damaged: the active manifest is missing")
    programs = ", ".join(str(program) for program in manifest.claim_generator_info or ())
    signature = manifest.signature_info or _Signature()
    actions = list(_actions(store))
    ingredients = [ingredient.title or "untitled" for ingredient in manifest.ingredients]
    left_out = max(len(actions) - _MOST, 0) + max(len(ingredients) - _MOST, 0)
    return Credentials(
        state=store.validation_state,
        problem=f"{left_out} actions and ingredients are not listed" if left_out else None,
        failures=tuple(dict.fromkeys(status.code for status in store.validation_status or ())),
        claim_generator=_short(programs) or manifest.claim_generator,
        issuer=signature.issuer,
        signer=signature.common_name,
        signed=signature.time,
        title=manifest.title,
        actions=tuple(actions[:_MOST]),
        ingredients=tuple(ingredients[:_MOST]),
    )


def _actions(store: _Store) -> Iterator[ActionEntry]:
    """What was done to the file, then to its ingredients, each manifest once."""
    waiting: list[tuple[str | None, str]] = [(None, store.active_manifest)]
    seen = set()
    while waiting:
        title, label = waiting.pop(0)
        manifest = store.manifests.get(label)
        if label in seen or manifest is None:
            continue
        seen.add(label)
        for assertion in manifest.assertions:
            if assertion.label.startswith("c2pa.actions"):
                for action in _Actions.model_validate(assertion.data).actions:
                    yield _entry(title, action)
        waiting.extend(
            (ingredient.title or "untitled", ingredient.active_manifest)
            for ingredient in manifest.ingredients
            if ingredient.active_manifest is not None
        )


def _entry(title: str | None, action: _Action) -> ActionEntry:
    source = action.source_type
    return ActionEntry(
        of=title,
        action=action.action,
        digital_source_type=None if source is None else source.rstrip("/").rsplit("/", 1)[-1],
        software=None if action.software is None else str(action.software),
        when=action.when,
    )
