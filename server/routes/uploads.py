"""Uploads: a picture gets an address that image fields accept. How much and for how long: `server.intake.uploads`."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints

from server.dependencies import CallerDep, UploadsDep, UrlsDep
from server.intake.body import read_body
from server.intake.params import validate
from server.openapi import PICTURE, error_responses, json_body
from server.schemas import UploadResponse

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
async def upload_asset(request: Request, uploads: UploadsDep, caller: CallerDep, urls: UrlsDep) -> UploadResponse:
    """Store pictures for use as `face_image` or `subject_image`. All are checked before any is stored.

    Where keys are asked for, only the key that uploads a picture can use it or download it again. Each key may upload
    so much a day; callers without a key share one such quota.
    """
    upload = validate(Upload, await read_body(request))
    file_urls = [urls.file(name) for name in await uploads.add(upload.data_urls, caller.owner)]
    return {"file_urls": file_urls, "urls": file_urls, "message": "Files uploaded successfully"}
