"""Finds a caller's request, and ends it."""

from __future__ import annotations

from server.dependencies import Gateway
from server.errors import NotFound
from workers.state.record import Record, Status


def find_record(request_id: str, owner: str, gateway: Gateway) -> Record:
    """Read the record of a request; raises `NotFound` if there is none, it has expired, or it is another caller's."""
    record = gateway.records.get(request_id)
    if record is None or record.owner != owner:
        raise NotFound(f"Request {request_id} not found")
    return record


def cancel(request_id: str, gateway: Gateway) -> Record | None:
    """End a request that waits, ask the worker to end one that runs; returns the record as it is now, if any is left.

    The pictures of one that will not run are removed.
    """
    record = gateway.records.cancel(request_id)
    if record is not None and record.status is Status.FAILED:
        for name in record.stored_images.values():
            gateway.store.delete(name)
    return record
