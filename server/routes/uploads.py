"""Uploads: a picture gets an address that image fields accept."""

from __future__ import annotations

from typing import Annotated, Final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints

from models.errors import UnreadableImage
from server.auth import caller_of
from server.dependencies import Gateway, gateway_of
from server.errors import ImageUnavailable, InvalidParameters
from server.intake.body import read_body
from server.intake.images import load_data_url
from server.intake.params import validate
from server.openapi import PICTURE, error_responses, json_body
from server.schemas import FieldError, UploadResponse
from server.urls import urls_of

router = APIRouter(tags=["assets"])
_MAX_FILES: Final = 16
_DataUrl = Annotated[
    str, StringConstraints(strip_whitespace=True), Field(json_schema_extra={"format": "image-data-url"})
]


class Upload(BaseModel):
    """Pictures to keep for later requests."""

    data_urls: Annotated[list[_DataUrl], Field(min_length=1, max_length=_MAX_FILES)] = Field(
        description="The pictures as data URLs: JPEG, PNG, WebP, HEIC or AVIF.",
        examples=[[PICTURE]],
    )


@router.post(
    "/upload-asset",
    operation_id="upload_asset",
    responses=error_responses(400, 401, 413, 429, 503),
    openapi_extra=json_body(Upload),
)
async def upload_asset(request: Request) -> UploadResponse:
    """Store pictures for use as `face_image` or `subject_image`. All are checked before any is stored.

    Where keys are asked for, only the key that uploads a picture can use it or download it again. Each key may upload
    so much a day; callers without a key share one such quota.
    """
    gateway, owner, urls = gateway_of(request), caller_of(request).owner, urls_of(request)
    upload = validate(Upload, await read_body(request))
    pictures = [await _load(position, url, gateway) for position, url in enumerate(upload.data_urls)]
    file_urls = [urls.file(name) for name in await run_sync(_store, pictures, owner, gateway)]
    return {"file_urls": file_urls, "urls": file_urls, "message": "Files uploaded successfully"}


async def _load(position: int, url: str, gateway: Gateway) -> tuple[bytes, str]:
    try:
        return await load_data_url(url, gateway)
    except (ImageUnavailable, UnreadableImage) as error:
        raise InvalidParameters([FieldError(field=f"data_urls.{position}", message=str(error))]) from error


def _store(pictures: list[tuple[bytes, str]], owner: str, gateway: Gateway) -> list[str]:
    gateway.upload_quota.count(owner, sum(len(data) for data, _ in pictures))
    ttl_s = gateway.settings.request_ttl_s
    return [gateway.store.put(data, extension, ttl_s, owner) for data, extension in pictures]
