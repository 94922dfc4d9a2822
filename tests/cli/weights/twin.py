"""The demo twin of the shipped lock: its names, roles, origins and paths, with demo files published under them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tomli_w
import torch
from safetensors.torch import load_file

from models.weights.installed import InstalledWeight, read_installed
from models.weights.lock import HubSource, Lock, Weight, WeightFile, read_lock
from tests.cli.weights.hub import Hub, sha256

REPOSITORY = Path(__file__).parents[3]
ARCHIVED_BESIDES = {"antelopev2/genderage.onnx": b"unused", "../../escaped": b"must stay inside"}


def publish(hub: Hub, demo: Path, lock: Path) -> Lock:
    """Publish demo files on `hub` under every origin of the shipped lock, and write the twin to `lock`.

    Roles without demo files get a few bytes. What the shipped lock pins, the twin pins; the rest is unpinned there too.
    """
    shipped = read_lock(REPOSITORY / "weights.lock")
    by_role = {weight.role: weight for weight in read_installed(demo).weights}
    entries = [_entry(hub, weight, by_role.get(weight.role), demo) for weight in shipped.weights]
    lock.write_text("# The twin.\n\n" + "\n".join(map(_toml, entries)))
    return read_lock(lock)


def _entry(hub: Hub, weight: Weight, stand_in: InstalledWeight | None, demo: Path) -> dict[str, Any]:
    """The twin's entry, whose objects are published while it is made."""
    files = list(weight.files)
    if weight.role == "sdxl_config":  # the demo networks' sizes are in files that the real ones do without
        files += [WeightFile(path=path, origin=path, sha256="0" * 64) for path in _besides(weight, stand_in)]
    published = {file: _content(file, weight, stand_in, demo) for file in files}
    source = _publish(hub, weight, published)
    return {
        **weight.model_dump(exclude={"source", "files"}),
        "source": source,
        "files": [_pins(file, data) for file, data in published.items()],
    }


def _besides(weight: Weight, stand_in: InstalledWeight | None) -> Iterator[str]:
    assert stand_in
    listed = {file.path.removeprefix(weight.path) for file in weight.files}
    for file in stand_in.files:
        inner = file.path.removeprefix(stand_in.path)
        if inner not in listed:
            yield weight.path + inner


def _content(file: WeightFile, weight: Weight, stand_in: InstalledWeight | None, demo: Path) -> bytes:
    """The demo file in the published form."""
    if stand_in is None:
        return f"stands for {file.origin}".encode() * 400
    path = demo / (stand_in.path + file.path.removeprefix(weight.path))
    return _pickled(path) if file.converted else path.read_bytes()


def _pickled(path: Path) -> bytes:
    out = io.BytesIO()
    torch.save(load_file(path), out)
    return out.getvalue()


def _publish(hub: Hub, weight: Weight, published: dict[WeightFile, bytes]) -> dict[str, Any]:
    source = weight.source
    if isinstance(source, HubSource):
        for file, data in published.items():
            hub.put(source.repo, source.revision, file.origin, data)
        return source.model_dump()
    url = urlsplit(source.url)
    place = f"/{url.hostname}{url.path}"
    if not source.unpack:
        for file, data in published.items():
            hub.plain[place + file.origin if place.endswith("/") else place] = data
        return {"url": hub.cdn + place}
    archive = _zipped({file.origin: data for file, data in published.items()})
    hub.plain[place] = archive
    return {"url": hub.cdn + place, "unpack": "zip", "size": len(archive), "sha256": sha256(archive)}


def _zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in {**members, **ARCHIVED_BESIDES}.items():
            archive.writestr(name, data)
    return out.getvalue()


def _pins(file: WeightFile, data: bytes) -> dict[str, Any]:
    place = {"path": file.path, "origin": file.origin}
    return {**place, "size": len(data), "sha256": sha256(data)} if file.pinned else {**place, "sha256": "unpinned"}


def _toml(entry: dict[str, Any]) -> str:
    """An entry as the shipped lock writes it: inline tables, one line for each file."""
    plain = tomli_w.dumps({key: value for key, value in entry.items() if not isinstance(value, dict | list)})
    used_by = ", ".join(f'"{slug}"' for slug in entry["used_by"])
    files = "".join(f"  {_inline(file)},\n" for file in entry["files"])
    return f"[[weights]]\n{plain}used_by = [{used_by}]\nsource = {_inline(entry['source'])}\nfiles = [\n{files}]\n"


def _inline(table: dict[str, Any]) -> str:
    return "{ " + ", ".join(tomli_w.dumps({key: value}).strip() for key, value in table.items()) + " }"
