"""Entries of a lock, and what publishes them."""

from __future__ import annotations

from typing import Any

from cli.weights.items import Item, items_of
from models.weights.lock import Weight
from tests.cli.weights.hub import Hub, sha256

DATA = bytes(range(256)) * 1200
"""Large enough to come from the CDN, in several chunks."""


def weight(name: str, source: dict[str, Any], *files: dict[str, Any], **fields: Any) -> Weight:
    """An entry with the usual values for what does not matter."""
    usual = {"role": name, "used_by": ["ic-light"], "licence": "MIT", "commercial": True, "path": name}
    return Weight.model_validate({**usual, "name": name, "source": source, "files": list(files), **fields})


def file(path: str, data: bytes | None, origin: str = "") -> dict[str, Any]:
    """A file pinned to `data`; unpinned without."""
    pins = {"sha256": "unpinned"} if data is None else {"size": len(data), "sha256": sha256(data)}
    return {"path": path, "origin": origin or path.rsplit("/", 1)[-1], **pins}


def on_hub(hub: Hub, name: str, data: bytes = DATA, pinned: bool = True, **fields: Any) -> Weight:
    """A weight of one file, published on the hub."""
    hub.put("some/repo", "main", f"{name}.safetensors", data)
    entry = file(f"{name}/{name}.safetensors", data if pinned else None)
    return weight(name, {"repo": "some/repo", "revision": "main"}, entry, **fields)


def on_server(hub: Hub, name: str, data: bytes = DATA, pinned: bool = True, **fields: Any) -> Weight:
    """A weight of one file, published on a plain server."""
    hub.plain[f"/files/{name}.onnx"] = data
    entry = file(f"{name}/{name}.onnx", data if pinned else None)
    return weight(name, {"url": f"{hub.cdn}/files/"}, entry, **fields)


def item(of: Weight) -> Item:
    (only,) = items_of(of)
    return only
