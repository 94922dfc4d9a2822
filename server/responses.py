"""Response bodies and headers, from the record of a request."""

from __future__ import annotations

import json
from typing import cast

from server.schemas import (
    FailedResponse,
    ImageResponse,
    Metrics,
    OpenState,
    ResultResponse,
    StatusResponse,
    SubmitResponse,
    UnfinishedResponse,
)
from server.urls import UrlBuilder
from workers.state.record import Output, Record, Status


def submitted(request_id: str, urls: UrlBuilder) -> SubmitResponse:
    """Body for an accepted request."""
    return {
        "request_id": request_id,
        "status": "QUEUED",
        **urls.request(request_id),
    }


def status(
    record: Record, urls: UrlBuilder, credits_left: float, position: int | None = None
) -> StatusResponse | FailedResponse:
    """Body for the state of a request; `position` is its place in the queue."""
    if record.status is Status.FAILED:
        return failed(record)
    own = urls.request(record.request_id)
    body: StatusResponse = {
        "status": cast(OpenState, record.status.value),
        "request_id": record.request_id,
        "status_url": own["status_url"],
        "response_url": own["response_url"],
        "metrics": _billed(record, credits_left) if record.status is Status.COMPLETED else {},
    }
    if record.status is Status.PROCESSING and record.total:
        body["progress"] = {"step": record.step, "total": record.total}
    if position is not None:
        body["queue_position"] = position
    return body


def answer(record: Record, urls: UrlBuilder, credits_left: float) -> ResultResponse | StatusResponse | FailedResponse:
    """Body for the result of a request; for its state while it has none."""
    if record.status is Status.COMPLETED:
        return result(record, urls, credits_left)
    return status(record, urls, credits_left)


def failed(record: Record) -> FailedResponse:
    """Body for a failed request."""
    return {
        "status": "FAILED",
        "error": record.error or "The request has failed.",
        "request_id": record.request_id,
        "metrics": _times(record),
    }


def result(record: Record, urls: UrlBuilder, credits_left: float) -> ResultResponse:
    """Body for a completed request."""
    images = [_image(output, urls) for output in record.outputs]
    return {
        "status": "COMPLETED",
        "request_id": record.request_id,
        "error": None,
        "output": images[0]["url"],
        "images": images,
        "seed": record.params["seed"],
        "prompt": record.params.get("prompt", ""),
        "timings": {},
        "metrics": _billed(record, credits_left),
    }


def unfinished(request_id: str, urls: UrlBuilder) -> UnfinishedResponse:
    """Body for a v1 call that has reached its time limit."""
    return {
        "error": "The result was not ready in time. The request goes on; ask for it at response_url.",
        "request_id": request_id,
        **urls.request(request_id),
    }


def result_headers(record: Record, credits_left: float) -> dict[str, str]:
    """Headers that go with a completed request's pictures."""
    first = record.outputs[0]
    metadata = {"height": first.height, "width": first.width, "samples": len(record.outputs)}
    return {
        "X-Request-Id": record.request_id,
        "X-generation-time": f"{record.inference_time or 0.0:.6f}",
        "X-Facelight-Timings": json.dumps(_stages(record)),
        "x-seed-value": str(record.params["seed"]),
        "X-output-metadata": json.dumps(metadata),
        "X-remaining-credits": str(credits_left),
    }


def _image(output: Output, urls: UrlBuilder) -> ImageResponse:
    return {
        "url": urls.picture(output.name, output.media_type),
        "content_type": output.media_type,
        "file_name": output.name,
        "file_size": output.size,
    }


def _times(record: Record) -> Metrics:
    return {
        "inference_time": round(record.inference_time or 0.0, 6),
        "queue_time": round(record.queue_time or 0.0, 6),
        "total_time": round(record.total_time or 0.0, 6),
        "stages": _stages(record),
    }


def _stages(record: Record) -> dict[str, float]:
    return {stage: round(seconds, 6) for stage, seconds in record.stages.items()}


def _billed(record: Record, credits_left: float) -> Metrics:
    return {**_times(record), "cost": record.cost, "remaining_credits": credits_left}
