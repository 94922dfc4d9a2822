"""Write the tables of the documentation anew from the code they describe: `make docs`.

A table stands between `<!-- table NAME -->` and `<!-- end -->`; NAME is a model's slug, `settings`, `weights`,
`demo-weights`, `lowering`, or `results-` and what was measured: the newest file of that in bench/results.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bench.report import RESULTS, Record, table
from models.catalog import MODELS
from models.model import Model
from models.weights.lock import HubSource, Weight, read_lock
from server.settings import GatewaySettings
from tests.lowering.counts import read_counts
from training.evaluation.goals import FIGURES_FILE, check_goals, read_figures
from training.evaluation.goals import RESULTS as TRAINING_RESULTS
from workers.settings import CommonSettings, WorkerSettings

FOLDER: Final = Path(__file__).parent
REPOSITORY: Final = FOLDER.parent
DOCUMENTS: Final = (*sorted(FOLDER.glob("*.md")), REPOSITORY / "training" / "README.md")
"""The documents that may have tables."""
WEIGHTS_LOCK: Final = REPOSITORY / "weights.lock"
_RESULTS: Final = "results-"
_COMMERCIAL: Final = {True: "yes", False: "**no**", "restricted": "on conditions"}
_TABLE: Final = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def updated(text: str) -> str:
    """The document with every table as the code has it now."""
    return _TABLE.sub(lambda match: f"{match[1]}{_table(match[2])}\n{match[3]}", text)


def _table(name: str) -> str:
    if name == "settings":
        return _rows(("Variable", "Default", "Meaning"), _setting_rows())
    if name.startswith(_RESULTS):
        return _result_table(name.removeprefix(_RESULTS))
    if name == "weights":
        return _rows(("Role", "Weight", "Size", "Licence", "Commercial use", "Hashes", "Note"), _weight_rows())
    if name == "lowering":
        return _rows(("Target", "Function", "Graph", "Kernels", "Launches", "Attention", "MiB"), _count_rows())
    if name == "demo-weights":
        return _rows(("On pictures never trained on", "Figure", "Unit", "Goal", "Note"), _demo_rows())
    return _rows(("Parameter", "Type", "Default", "Allowed", "Meaning"), _parameter_rows(MODELS[name]))


def _result_table(what: str) -> str:
    """The newest result of a measurement; dates are the last part of the files' names."""
    newest = max(RESULTS.glob(f"{what}-*.json"), key=lambda path: path.stem[-len("2000-01-01") :])
    return table(Record.model_validate_json(newest.read_text())).strip()


def _rows(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def _parameter_rows(model: Model) -> Iterator[tuple[str, ...]]:
    schema = model.params.model_json_schema()
    required, fields = set(schema["required"]), schema["properties"]
    for name in dict.fromkeys((*model.example, *fields)):
        field = fields[name]
        default = _code(field["default"]) if "default" in field else "**required**" if name in required else "not set"
        yield f"`{name}`", field["type"], default, _allowed(field), field["description"]


def _allowed(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(_code(value) for value in field["enum"])
    if "minimum" in field:
        return f"{field['minimum']} – {field['maximum']}"
    return f"at most {field['maxLength']} characters" if "maxLength" in field else ""


def _setting_rows() -> Iterator[tuple[str, ...]]:
    for owner, settings in (("", CommonSettings), ("Gateway. ", GatewaySettings), ("Worker. ", WorkerSettings)):
        # The fields of the class itself first, then those that the models' options add.
        for name, field in sorted(
            settings.model_fields.items(), key=lambda item: item[0] not in settings.__annotations__
        ):
            if settings is CommonSettings or name not in CommonSettings.model_fields:
                yield f"`FACELIGHT_{name.upper()}`", _default(field), owner + (field.description or "")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value in (None, (), PydanticUndefined):
        return "not set"
    return _code(",".join(map(str, value)) if isinstance(value, tuple) else value)


def _weight_rows() -> Iterator[tuple[str, ...]]:
    role = ""
    for weight in read_lock(WEIGHTS_LOCK).weights:
        name = f"[`{weight.name}`]({_page(weight)}){' (default)' if weight.default else ''}"
        first = f"`{weight.role}`{' (optional)' if weight.optional else ''}" if weight.role != role else ""
        role = weight.role
        yield first, name, _size(weight), weight.licence, _COMMERCIAL[weight.commercial], _hashes(weight), weight.note


def _demo_rows() -> Iterator[tuple[str, ...]]:
    for line in check_goals(read_figures(TRAINING_RESULTS / FIGURES_FILE)):
        value = "not measured" if line.value is None else f"{line.value:.2f}"
        yield line.what, value if line.passed else f"**{value}**", line.unit, line.goal, line.note


def _count_rows() -> Iterator[tuple[str, ...]]:
    for row in read_counts().rows:
        if row.network == "full":
            attention = ", ".join(f"{calls} {kernel}" for kernel, calls in row.attention.items())
            yield (
                row.target,
                f"`{row.model}` `{row.function}`",
                f"{row.graph}, {row.sizes.partition(',')[0]}",
                f"{row.kernels}",
                f"{row.launches:,}",
                attention,
                f"{row.peak_mib:,.0f}",
            )


def _page(weight: Weight) -> str:
    source = weight.source
    if isinstance(source, HubSource):
        return f"https://huggingface.co/{source.repo}/tree/{source.revision}"
    # A folder of downloads has no page of its own.
    return source.url + weight.files[0].origin if source.url.endswith("/") else source.url


def _size(weight: Weight) -> str:
    if any(file.size is None for file in weight.files):
        return "not known"
    return f"{weight.size / 1e9:.2f} GB" if weight.size >= 1e8 else f"{weight.size / 1e6:.0f} MB"


def _hashes(weight: Weight) -> str:
    return "known" if all(file.pinned for file in weight.files) else "**from the hub, at the first fetch**"


def _code(value: object) -> str:
    return f"`{value}`" if value != "" else "empty"


def main() -> None:
    """Update every document; with `--check`, only report which are out of date, with exit status 1."""
    stale = [path for path in DOCUMENTS if updated(path.read_text()) != path.read_text()]
    if "--check" in sys.argv:
        sys.exit(", ".join(f"{path.relative_to(REPOSITORY)} is out of date: make docs" for path in stale) or 0)
    for path in stale:
        path.write_text(updated(path.read_text()))


if __name__ == "__main__":
    main()
