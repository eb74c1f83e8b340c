"""Files of settings and results: YAML and JSON read with one-line errors, and atomic writes."""

import json
from pathlib import Path
from typing import Any

import yaml

from forgerank.types import InputError

_LONGEST_YAML = 100_000  # characters; the parser takes seconds for them


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see its old content or all of the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises InputError for an unreadable one."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # numbers too long, nested too deep
        raise InputError(f"{path}: cannot be read: {error}") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises InputError as `parse_yaml` does, and for an unreadable file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Plain values. Raises InputError, one line that names `where`, for anything but YAML without aliases."""
    if len(text) > _LONGEST_YAML:
        raise InputError(f"{where}: over the limit of {_LONGEST_YAML} characters")
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # dates, numbers and nesting make the parser raise errors of every kind
        raise InputError(f"{where}: is not YAML: {' '.join(str(error).split())[:200]}") from error


def parse_setting(text: str) -> tuple[str, Any]:
    """`--set KEY=VALUE` with a YAML value. Raises InputError, one line, for anything else.

    >>> parse_setting("methods=[Deepfakes, FaceSwap]")
    ('methods', ['Deepfakes', 'FaceSwap'])
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set {text}: give KEY=VALUE")
    return key, parse_yaml(value, f"--set {text}")


class _Loader(yaml.SafeLoader):
    """Refuses aliases: by merging them, a kilobyte can expand to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)
