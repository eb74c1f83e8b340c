"""API keys: shown once, kept as hashes."""

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, Row, func, insert, select, update

from forgerank.serving.service.database import api_keys
from forgerank.types import InputError

_KEY = re.compile(r"frk_([0-9]{1,9})_([A-Za-z0-9_-]{43})")  # row of the key, 256 random bits


@dataclass(frozen=True, slots=True)
class Key:
    """What can be told of a key; the key itself is not kept."""

    id: int
    name: str  # whose it is
    created: datetime  # UTC
    revoked: datetime | None


class Keys:
    """The keys of a database. Safe in threads; what another process adds or revokes counts at once.

    Kept is one round of SHA-256. The secret holds 256 random bits, so there is nothing to guess that a slow,
    salted password hash would protect, and every request has to compute it.
    """

    def __init__(self, engine: Engine) -> None:
        """`engine` comes from `open_database`."""
        self._engine = engine
        self._reader = engine.execution_options(begin="BEGIN")

    def add(self, name: str) -> str:
        """Make a key and return it, for the only time."""
        secret = secrets.token_urlsafe(32)
        values = {"name": name, "hash": _hash(secret), "created": time.time()}
        with self._engine.begin() as connection:
            row = connection.execute(insert(api_keys).values(values).returning(api_keys.c.id)).scalar_one()
        return f"frk_{row}_{secret}"

    def find(self, key: str) -> int | None:
        """The id of a key that a client showed; None for one that is unknown or revoked."""
        parts = _KEY.fullmatch(key)
        if parts is None:
            return None
        wanted = (api_keys.c.id == int(parts[1])) & api_keys.c.revoked.is_(None)
        with self._reader.begin() as connection:
            kept = connection.scalar(select(api_keys.c.hash).where(wanted))
        matches = kept is not None and hmac.compare_digest(str(kept), _hash(parts[2]))
        return int(parts[1]) if matches else None

    def all(self) -> list[Key]:
        """Every key, oldest first."""
        with self._reader.begin() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.id)).all()
        return [_key(row) for row in rows]

    def any(self) -> bool:
        """Whether there is a key that opens anything."""
        valid = select(func.count()).select_from(api_keys).where(api_keys.c.revoked.is_(None))
        with self._reader.begin() as connection:
            return bool(connection.scalar(valid))

    def revoke(self, key_id: int) -> None:
        """Let a key open nothing any more; its jobs stay. Raises InputError where there is no such key."""
        valid = (api_keys.c.id == key_id) & api_keys.c.revoked.is_(None)
        with self._engine.begin() as connection:
            if connection.execute(update(api_keys).where(valid).values(revoked=time.time())).rowcount == 0:
                raise InputError(f"no valid key has the id {key_id}")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Row[tuple[object, ...]]) -> Key:
    entry = row._mapping
    revoked = entry["revoked"]
    return Key(
        entry["id"], entry["name"], _time(entry["created"]), None if revoked is None else _time(revoked)
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
