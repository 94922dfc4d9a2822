"""Bodies of all responses, as the routes return them and as OpenAPI documents them."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic needs this one on Python 3.11

OpenState = Literal["QUEUED", "PROCESSING", "COMPLETED"]
"""Every state that is not a failure."""


class FieldError(TypedDict):
    """What is wrong with one field of the body."""

    field: str
    message: str


class ErrorResponse(TypedDict):
    """Every response that is not 2xx, except that of a failed request."""

    error: str
    detail: NotRequired[list[FieldError]]


class Metrics(TypedDict, total=False):
    """Seconds and credits; empty while a request is queued or processing, without credits when it has failed.

    `stages` is an extension: seconds of computing by stage.
    """

    inference_time: float
    queue_time: float
    total_time: float
    stages: dict[str, float]
    cost: float
    remaining_credits: float


class RequestUrls(TypedDict):
    """The three URLs of one request: v1 result, v2 status, v2 result."""

    poll_url: str
    status_url: str
    response_url: str


class SubmitResponse(RequestUrls):
    """A request was accepted."""

    request_id: str
    status: Literal["QUEUED"]


class Progress(TypedDict):
    """How many denoise steps of a request are done."""

    step: int
    total: int


class StatusResponse(TypedDict):
    """State of a request that has not failed.

    Extensions: `progress` while a worker generates; `queue_position` while it waits, 1 is the next.
    """

    status: OpenState
    request_id: str
    status_url: str
    response_url: str
    metrics: Metrics
    progress: NotRequired[Progress]
    queue_position: NotRequired[int]


class ImageResponse(TypedDict):
    """One picture of a result; `file_size` in bytes."""

    url: str
    content_type: str
    file_name: str
    file_size: int


class ResultResponse(TypedDict):
    """A finished request. `output` is the URL of the first picture, `images` has all of them."""

    status: Literal["COMPLETED"]
    request_id: str
    error: None
    output: str
    images: list[ImageResponse]
    seed: int
    prompt: str
    timings: dict[str, float]
    metrics: Metrics


class FailedResponse(TypedDict):
    """A request that has failed; served as 422."""

    status: Literal["FAILED"]
    error: str
    request_id: str
    metrics: Metrics


class UnfinishedResponse(RequestUrls):
    """A v1 call has reached its time limit; the request is still queued or processing, its result: `response_url`."""

    error: str
    request_id: str


class UploadResponse(TypedDict):
    """Addresses of uploaded pictures, in the order of the request, under both names that clients read."""

    file_urls: list[str]
    urls: list[str]
    message: str


CreditsResponse = TypedDict("CreditsResponse", {"credits": float, "free-credits": float})
"""Balance of the key."""


class LiveResponse(TypedDict):
    """The process answers."""

    status: Literal["live"]


class ModelHealth(TypedDict):
    """Whether one model can be served, with which weights and in which variants, and if not, why.

    `note` tells what demo weights are good for; it is empty where there are none. `execution` is the mode in which its
    UNet runs; `fallback` says what could not be compiled or captured on some worker and why, else it is empty.
    `waiting`: requests in the model's queues; null if Redis does not say.
    """

    ready: bool
    weights: Literal["demo", "real", "mixed"] | None
    note: str
    variants: list[str]
    detail: str
    execution: Literal["eager", "compiled", "captured", "mixed"] | None
    fallback: str
    waiting: int | None


class ReadyResponse(TypedDict):
    """Whether any model can be served, by a process that is not about to end.

    `paused`: the operator has the workers take no request. New ones are accepted and wait, which `ready` does not tell.
    """

    ready: bool
    draining: bool
    paused: bool
    weights: Literal["demo", "real", "mixed"] | None
    models: dict[str, ModelHealth]
    workers: int
