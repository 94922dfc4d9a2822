"""API keys that the operator issues: what each may do, and how the gateway recognises one.

Redis holds, without expiry, one hash per key (`facelight:key:<id>`) and one of all digests (`facelight:key-digests`,
digest → id). The secret itself is told once, to the one who asks for the key; kept is its SHA-256, which is enough for
256 random bits. Requests belong to a key's id, which stays the same when its secret is rotated.
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

from workers.connection import text

_DIGESTS: Final = "facelight:key-digests"
PREFIX: Final = "facelight:key:"
"""Of the hashes' names. Whoever takes a request's price from a key, or gives it back, does so in field `credits`."""
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

    def may_use(self, slug: str) -> bool:
        """Whether the key's scopes admit a model."""
        return not self.scopes or slug in self.scopes


class Changes(TypedDict, total=False):
    """What may be changed about a key; what is absent stays as it is."""

    scopes: Sequence[str]
    rate: int | None
    credits: float | None


_STAMP: Final = """
local now = redis.call('TIME')
local stamp = now[1] .. '.' .. string.format('%06d', now[2])
"""

# KEYS: key, digests; ARGV: id, digest, field, value, ...
_ADD: Final = f"""{_STAMP}
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'digest', ARGV[2], 'created_at', stamp, unpack(ARGV, 3))
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
return redis.call('HGETALL', KEYS[1])
"""

# KEYS: digests; ARGV: digest, prefix of keys. A Redis that is full or read-only must still let keys in: hence pcall.
_FIND: Final = f"""{_STAMP}
local id = redis.call('HGET', KEYS[1], ARGV[1])
if not id then return {{}} end
local found = redis.call('HGETALL', ARGV[2] .. id)
if #found == 0 then return {{}} end
local last = tonumber(redis.call('HGET', ARGV[2] .. id, 'last_used') or 0)
if now[1] - last >= 60 then redis.pcall('HSET', ARGV[2] .. id, 'last_used', now[1]) end
return found
"""

# KEYS: key, digests
_REVOKE: Final = """
local digest = redis.call('HGET', KEYS[1], 'digest')
if not digest then return 0 end
redis.call('HDEL', KEYS[2], digest)
return redis.call('DEL', KEYS[1])
"""

# KEYS: key, digests; ARGV: new digest
_ROTATE: Final = """
local digest, id = unpack(redis.call('HMGET', KEYS[1], 'digest', 'id'))
if not digest then return 0 end
redis.call('HDEL', KEYS[2], digest)
redis.call('HSET', KEYS[1], 'digest', ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], id)
return 1
"""

# KEYS: key; ARGV: field, value, ...
_CHANGE: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
if #ARGV > 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end
return redis.call('HGETALL', KEYS[1])
"""

# KEYS: key; ARGV: credits to add
_TOP_UP: Final = """
local credits = redis.call('HGET', KEYS[1], 'credits')
if not credits or credits == '' then return 0 end
redis.call('HINCRBYFLOAT', KEYS[1], 'credits', ARGV[1])
return 1
"""


class Keys:
    """All API keys in one Redis. Every change is one atomic step and counts from the next request on."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._add = redis.register_script(_ADD)
        self._find = redis.register_script(_FIND)
        self._revoke = redis.register_script(_REVOKE)
        self._rotate = redis.register_script(_ROTATE)
        self._change = redis.register_script(_CHANGE)
        self._top_up = redis.register_script(_TOP_UP)

    def add(
        self, name: str, scopes: Sequence[str] = (), rate: int | None = None, credits: float | None = None
    ) -> tuple[Key, str]:
        """Issue a key; returns it with its secret, which nobody can read again."""
        key_id, secret = f"key_{secrets.token_hex(8)}", new_secret()
        fields = ["name", name, *_fields({"scopes": scopes, "rate": rate, "credits": credits})]
        raw = self._add(keys=[_key(key_id), _DIGESTS], args=[key_id, digest_of(secret), *fields])
        return _parse(_pairs(raw)), secret

    def find(self, secret: str) -> Key | None:
        """The key that a secret belongs to, marked as used now; None if there is none. One round trip."""
        if not is_well_formed(secret):
            return None
        digest = digest_of(secret)
        raw = _pairs(self._find(keys=[_DIGESTS], args=[digest, PREFIX]))
        # Redis' index only nominates a key; what lets it in is this comparison, whose time says nothing.
        return _parse(raw) if hmac.compare_digest(raw.get("digest", ""), digest) else None

    def get(self, key_id: str) -> Key | None:
        """The key of that id; None if there is none."""
        raw = cast("dict[bytes, bytes]", self._redis.hgetall(_key(key_id)))
        return _parse({text(name): text(value) for name, value in raw.items()}) if raw else None

    def all(self) -> list[Key]:
        """All keys, oldest first."""
        ids = [text(key_id) for key_id in cast("list[bytes]", self._redis.hvals(_DIGESTS))]
        return sorted((key for key_id in ids if (key := self.get(key_id))), key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str) -> bool:
        """Make a key worthless for ever. Its requests run to their end. False if there is no such key."""
        return bool(self._revoke(keys=[_key(key_id), _DIGESTS]))

    def rotate(self, key_id: str) -> str | None:
        """Give a key a new secret, which is returned; the old one is worthless now. None if there is no such key."""
        secret = new_secret()
        return secret if self._rotate(keys=[_key(key_id), _DIGESTS], args=[digest_of(secret)]) else None

    def change(self, key_id: str, changes: Changes) -> Key | None:
        """Change what a key may do; returns it as it is now, None if there is no such key."""
        raw = _pairs(self._change(keys=[_key(key_id)], args=_fields(changes)))
        return _parse(raw) if raw else None

    def top_up(self, key_id: str, credits: float) -> bool:
        """Add to the credits of a metered key; False if it is not metered, or there is no such key."""
        return bool(self._top_up(keys=[_key(key_id)], args=[repr(credits)]))


def new_secret() -> str:
    """256 random bits as `fl_` and 64 hexadecimal digits, and their CRC-32 in 8 more."""
    random = secrets.token_hex(32)
    return f"fl_{random}{_checksum(random)}"


def is_well_formed(secret: str) -> bool:
    """Whether this could be a key's secret: tells a mistyped or a cut one without asking anybody."""
    found = _SECRET.fullmatch(secret)
    return found is not None and found["checksum"] == _checksum(found["random"])


def digest_of(secret: str) -> str:
    """What is kept of a secret: its SHA-256 in hexadecimal digits."""
    return sha256(secret.encode()).hexdigest()


def _checksum(random: str) -> str:
    return f"{crc32(random.encode()):08x}"


def _key(key_id: str) -> str:
    return f"{PREFIX}{key_id}"


def _fields(changes: Changes) -> list[str]:
    """Names and values in turn, as Redis takes them."""
    values: dict[str, str] = {}
    if "scopes" in changes:
        values["scopes"] = ",".join(changes["scopes"])
    for name in ("rate", "credits"):
        if name in changes:
            values[name] = "" if changes[name] is None else repr(changes[name])
    return [word for pair in values.items() for word in pair]


def _pairs(raw: Any) -> dict[str, str]:
    """A hash as a script returns it: names and values in turn."""
    words = [text(word) for word in raw]
    return dict(zip(words[::2], words[1::2], strict=True))


def _parse(raw: dict[str, str]) -> Key:
    return Key(
        id=raw["id"],
        name=raw["name"],
        scopes=tuple(slug for slug in raw["scopes"].split(",") if slug),
        rate=int(raw["rate"]) if raw["rate"] else None,
        credits=float(raw["credits"]) if raw["credits"] else None,
        created_at=float(raw["created_at"]),
        last_used=float(raw["last_used"]) if "last_used" in raw else None,
    )
