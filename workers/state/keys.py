"""API keys that the operator issues: what each may do, and how the gateway recognises one.

Redis holds, without expiry, one hash per key (`facelight:key:<id>`) and one of all digests (`facelight:key-digests`,
digest → id). A secret is returned once, when it is issued; Redis holds its SHA-256, enough for 256 random bits.
Requests belong to a key's id, which a rotation of the secret does not change. Names are unique, except those from
versions that did not check.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypedDict, cast
from zlib import crc32

from redis import Redis

from workers.errors import NameAmbiguous, NameTaken, NotMetered
from workers.state.connection import decode, replicated
from workers.state.scripts import IdempotentScript, load_script

_DIGESTS: Final = "facelight:key-digests"
PREFIX: Final = "facelight:key:"
"""Prefix of the hashes. Requests are charged to, and refunded to, field `credits`."""
_SECRET: Final = re.compile(r"fl_(?P<random>[0-9a-f]{64})(?P<checksum>[0-9a-f]{8})")


@dataclass(frozen=True)
class Key:
    """One API key, without its secret. Times are seconds since the epoch by Redis' clock."""

    id: str
    name: str
    scopes: tuple[str, ...] = ()
    """Slugs of the models that it may use; none: all."""
    rate: int | None = None
    """Requests per minute; None: no limit."""
    credits: float | None = None
    """What is left of its credits; None: it is not metered."""
    created_at: float = 0.0
    last_used: float | None = None
    """To the minute."""
    webhook: str | None = None
    """URL that is told of the end of its requests, unless a request names another."""

    def may_use(self, slug: str) -> bool:
        """Whether the key's scopes admit a model."""
        return not self.scopes or slug in self.scopes


class Changes(TypedDict, total=False):
    """Changes of a key; an absent field stays as it is."""

    scopes: Sequence[str]
    rate: int | None
    credits: float | None
    webhook: str | None


class Keys:
    """All API keys in one Redis. Every change is one atomic step and counts from the next request on."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add = redis.register_script(load_script("key_add"))
        self._find = redis.register_script(load_script("key_find"))
        self._revoke = IdempotentScript(redis, load_script("key_revoke"))
        self._rotate = IdempotentScript(redis, load_script("key_rotate"))
        self._change = IdempotentScript(redis, load_script("key_change"))

    def add(
        self,
        name: str,
        scopes: Sequence[str] = (),
        rate: int | None = None,
        credits: float | None = None,
        webhook: str | None = None,
    ) -> tuple[Key, str]:
        """Issue a key; returns it with its secret, which cannot be read again. Raises `NameTaken`."""
        key_id, secret = f"key_{secrets.token_hex(8)}", new_secret()
        fields = _fields({"scopes": scopes, "rate": rate, "credits": credits, "webhook": webhook})
        with replicated():
            taken, raw = self._add(args=[key_id, digest_of(secret), name, *fields])
        if taken:
            raise NameTaken(f"There is a key called {name} already: {decode(taken[0])}.")
        return _parse(_pairs(raw)), secret

    def find(self, secret: str) -> Key | None:
        """The key that a secret belongs to, marked as used now; None if there is none. One round trip."""
        if not is_well_formed(secret):
            return None
        digest = digest_of(secret)
        raw = _pairs(self._find(keys=[_DIGESTS], args=[digest, PREFIX]))
        # The index in Redis only finds a candidate; this constant-time comparison authenticates it.
        return _parse(raw) if hmac.compare_digest(raw.get("digest", ""), digest) else None

    def get(self, key_id: str) -> Key | None:
        """The key of that id; None if there is none."""
        raw = cast("dict[bytes, bytes]", self._redis.hgetall(_key(key_id)))
        return _parse({decode(name): decode(value) for name, value in raw.items()}) if raw else None

    def id_of(self, id_or_name: str) -> str | None:
        """The id of the key that is meant; None if there is none. Raises `NameAmbiguous`."""
        named = [key.id for key in self.all() if id_or_name in (key.id, key.name)]
        return _only([key_id.encode() for key_id in named], id_or_name)

    def all(self) -> list[Key]:
        """All keys, oldest first."""
        ids = [decode(key_id) for key_id in cast("list[bytes]", self._redis.hvals(_DIGESTS))]
        return sorted((key for key_id in ids if (key := self.get(key_id))), key=lambda key: (key.created_at, key.id))

    def revoke(self, id_or_name: str) -> str | None:
        """Revoke a key for good. Its requests are still served.

        Returns its id; None if there is no such key. Raises `NameAmbiguous`, as do the methods below.
        """
        with replicated():
            return _only(self._revoke(args=[id_or_name]), id_or_name)

    def rotate(self, id_or_name: str) -> str | None:
        """Replace a key's secret, invalidating it at once, and return the new one. None if there is no such key."""
        secret = new_secret()
        with replicated():
            return secret if _only(self._rotate(args=[id_or_name, digest_of(secret)]), id_or_name) else None

    def change(self, id_or_name: str, changes: Changes, added: float | None = None) -> Key | None:
        """Change what a key may do, and add credits to it; returns it as it is now, None if there is no such key.

        Raises `NotMetered` if there are no credits to add to; nothing has changed then.
        """
        words = [id_or_name, "" if added is None else repr(added), *_fields(changes)]
        with replicated():
            ids, changed = self._change(args=words)
        key_id = _only(ids, id_or_name)
        if key_id is not None and not changed:
            raise NotMetered(f"There is no metered key {id_or_name}; `--credits X` starts to meter one.")
        return None if key_id is None else self.get(key_id)


def _only(ids: Sequence[bytes], id_or_name: str) -> str | None:
    """The one key that is meant, if there is one."""
    if len(ids) > 1:
        raise NameAmbiguous(
            f"{len(ids)} keys are called {id_or_name}: {', '.join(map(decode, ids))}. Name one by its id."
        )
    return decode(ids[0]) if ids else None


def new_secret() -> str:
    """256 random bits as `fl_` and 64 hexadecimal digits, and their CRC-32 in 8 more."""
    random = secrets.token_hex(32)
    return f"fl_{random}{_checksum(random)}"


def is_well_formed(secret: str) -> bool:
    """Whether this could be a key's secret by form and checksum: detects a mistyped or truncated one offline."""
    found = _SECRET.fullmatch(secret)
    return found is not None and found["checksum"] == _checksum(found["random"])


def digest_of(secret: str) -> str:
    """The digest that is stored of a secret: its SHA-256 in hexadecimal digits."""
    return sha256(secret.encode()).hexdigest()


def _checksum(random: str) -> str:
    return f"{crc32(random.encode()):08x}"


def _key(key_id: str) -> str:
    return f"{PREFIX}{key_id}"


def _fields(changes: Changes) -> list[str]:
    """Alternating names and values, as HSET takes them."""
    values: dict[str, str] = {}
    if "scopes" in changes:
        values["scopes"] = ",".join(changes["scopes"])
    for name in ("rate", "credits"):
        if name in changes:
            values[name] = "" if changes[name] is None else repr(changes[name])
    if "webhook" in changes:
        values["webhook"] = changes["webhook"] or ""
    return [word for pair in values.items() for word in pair]


def _pairs(raw: Any) -> dict[str, str]:
    """A hash as a script returns it: alternating names and values."""
    words = [decode(word) for word in raw]
    return dict(zip(words[::2], words[1::2], strict=True))


def _parse(raw: dict[str, str]) -> Key:
    return Key(
        id=raw["id"],
        name=raw["name"],
        scopes=tuple(slug for slug in raw["scopes"].split(",") if slug),
        rate=int(raw["rate"]) if raw["rate"] else None,
        credits=float(raw["credits"]) if raw["credits"] else None,
        webhook=raw.get("webhook") or None,
        created_at=float(raw["created_at"]),
        last_used=float(raw["last_used"]) if "last_used" in raw else None,
    )
