"""JSON, YAML and CSV: documents whose values, keys and nesting are odd, or whose bytes are damaged."""

import csv
import io
import json
from random import Random
from typing import Any

from hostile.damage import damage

_TEXTS = (
    "",
    " ",
    "\x00",
    "a\nb",
    "\x1b[31mred",
    "../../x",
    "/x",
    "C:\\x",
    "\ud800",
    "é" * 300,
    "NaN",
    "null",
    "{}",
)
_NUMBERS = (0, -1, 1, 2**31, 2**63, 10**30, -(10**400), 0.5, -0.0, 1e308, 5e-324)
_WORDS = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"\\ud800",
    b'"\\u0000"',
    b"tru",
    b"[" * 3000,
)
_LISTS = ("[1, 2", "[" * 5000, "[1e5]", f"[{'9' * 5000}]")
_YAML = (
    *(
        "a: 2026-13-45",
        "a: !!python/object:os.system x",
        "a: !!int x",
        "a: !!binary '*'",
        "&a {b: *a}",
        "? {a: b}: c",
    ),
    *(
        "{[]: 1}",
        "<<: [1]",
        "a: !!timestamp x",
        "- " * 400,
        "{" * 400,
        "a: 1:99999",
        "\ta: 1",
        "%YAML 9.9",
        "a: .inf",
    ),
    *("&a [*a]", "!!set {a, b}", "a: 0x", "a: 1e999", "--- 1\n--- 2", "<<: &a {<<: *a}", "a: '\x07'", "=: 1"),
)


def hostile_json(seed: Any, rng: Random, *, depths: tuple[int, ...] = (10, 1000, 50_000)) -> bytes:
    """`seed`, a plain value, with odd values in it, as JSON; often with its bytes damaged too."""
    text = json.dumps(_changed(seed, rng)).encode()
    choice = rng.randrange(6)
    if choice == 0:  # something that JSON's own writer does not write
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(_WORDS) + text[at + rng.randrange(3) :]
    elif choice == 1:
        depth = rng.choice(depths)
        text = b"[" * depth + text + b"]" * rng.choice((depth, 0))
    return damage(text, rng) if choice > 3 else text


def hostile_yaml(seed: Any, rng: Random) -> bytes:
    """As `hostile_json`, whose output mostly is YAML too; also what only YAML can say."""
    if rng.randrange(3):
        return hostile_json(seed, rng, depths=(10, 300))  # its parser is slow
    lines = [f"{key}: {json.dumps(value)}" for key, value in seed.items()]
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(_YAML))
    return damage("\n".join(lines).encode(), rng) if rng.randrange(2) else "\n".join(lines).encode()


def hostile_csv(seed: list[list[str]], rng: Random) -> bytes:
    """Rows with odd cells, cells and rows too many or too few, and damaged bytes."""
    rows = [list(row) for row in seed]
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(max(len(rows), 1))
        row = rows[i] if rows else []
        choice = rng.randrange(5)
        if choice == 0:
            rows.insert(i, [*row, "more"])
        elif choice == 1:
            rows[i : i + 1] = [row[:-1]]
        elif choice == 2 and row:
            row[rng.randrange(len(row))] = rng.choice(
                (*_TEXTS, "[1, 2", "[" * 5000, "[1e5]", "[" + "9" * 5000 + "]")
            )
        elif choice == 3:
            row.append("x" * rng.choice((10, 200_000)))
        else:
            del rows[i : i + 1]
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    content = stream.getvalue().encode("utf-8", "surrogatepass")
    return damage(content, rng) if rng.randrange(2) else content


def _changed(value: Any, rng: Random) -> Any:
    """A copy with one to three odd values, keys too many, or keys too few."""
    copy = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 3)):
        holders = list(_holders(copy))
        if not holders:
            return _odd(rng)
        holder = rng.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = rng.choice(keys)
        choice = rng.randrange(5)
        if choice == 0:
            del holder[key]
        elif choice == 1 and isinstance(holder, dict):
            holder[rng.choice(_TEXTS[:10])] = holder.pop(key)
        elif choice == 2 and isinstance(holder, list):
            holder.extend([holder[key]] * rng.choice((1, 1000)))
        else:
            holder[key] = _odd(rng)
    return copy


def _holders(value: Any) -> Any:
    """Every object and list that is not empty."""
    if isinstance(value, (dict, list)) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _odd(rng: Random) -> Any:
    plain = (*_TEXTS, *_NUMBERS, None, True, False, [], {}, [[]], {"": {}}, float("nan"), float("inf"))
    return rng.choice(plain)
