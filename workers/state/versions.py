"""Versions of what Redis holds: during an upgrade, gateways and workers of two versions share it.

| A change | Its version |
| --- | --- |
| a field is added, and who does not know it does nothing wrong | stays: readers ignore the field, steps preserve it |
| a field that others would misread; a parameter, which they would ignore | `RECORD_VERSION` + 1, added to `READABLE` |
| the keys of the queue, or what the steps do with them | `QUEUE_VERSION` + 1 |

Workers leave records of a newer version in the queue, for newer workers; gateways answer calls about them with 503. All
steps of `lua/common.lua` refuse a queue of a newer version. Steps rely on a few fields of records, whatever their
version: status, attempt, worker, cancel, slug, variant, owner, ticket, cost, batch_hint and the times.
"""

from __future__ import annotations

from typing import Final

RECORD_VERSION: Final = 1
"""Of the records that this version writes, and the newest that it reads."""
READABLE: Final = frozenset({1})
"""Of the records that this version reads. Records from before there were versions count as 1."""
QUEUE_VERSION: Final = 1
"""Of the keys beside the records."""
