"""Finds a caller's request."""

from __future__ import annotations

from server.context import Gateway
from server.errors import NotFound
from workers.records import Record


def find_record(request_id: str, owner: str, gateway: Gateway) -> Record:
    """Read the record of a request; raises `NotFound` if there is none, it has expired, or it is another caller's."""
    record = gateway.records.get(request_id)
    if record is None or record.owner != owner:
        raise NotFound(f"Request {request_id} not found")
    return record
