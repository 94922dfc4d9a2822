"""Validates request bodies as parameters of a model; errors are readable messages per field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from models.model import Model
from models.params import CommonParams
from server.errors import InvalidParameters
from server.intake.body import Body
from server.schemas import FieldError

Shape = TypeVar("Shape", bound=BaseModel)
References = Mapping[str, str | bytes]
"""By image field that is present: the caller's reference to an image, or the bytes of a file part."""

_ATTACHED: Final = "attached"
_PLAIN: Final = (
    (re.compile(r"^Value error, "), ""),
    (re.compile(r"^Field required$"), "is required"),
    (re.compile(r"^Input should be "), "must be "),
    (
        re.compile(r"^Unable to parse input string as an integer, exceeded"),
        "must be an integer of fewer digits: exceeded",
    ),
    (re.compile(r"^(String|List) should have "), "must have "),
)


def parse_params(model: Model, body: Body, max_megapixels: float) -> tuple[CommonParams, References]:
    """Validate a body; raises `InvalidParameters` for invalid values and for results over `max_megapixels`."""
    attached = {name: body[name] for name in model.params.image_fields if isinstance(body.get(name), bytes)}
    params = validate(model.params, {**body, **dict.fromkeys(attached, _ATTACHED)})
    _check_output(params, max_megapixels)
    named = {name: attached.get(name, getattr(params, name)) for name in params.image_fields}
    return params, {name: reference for name, reference in named.items() if reference is not None}


def validate(shape: type[Shape], body: Mapping[str, Any]) -> Shape:
    """Validate a body against a pydantic model; raises `InvalidParameters`."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        raise InvalidParameters([_field_error(details) for details in error.errors(include_url=False)]) from error


def _check_output(params: CommonParams, max_megapixels: float) -> None:
    width, height = params.output_size
    megapixels = params.number_of_images * width * height / 1e6
    if megapixels > max_megapixels:
        message = (
            f"{params.number_of_images} pictures of {width} x {height} pixels are {megapixels:.1f} megapixels; "
            f"at most {max_megapixels:g} are drawn per request"
        )
        raise InvalidParameters([FieldError(field="number_of_images", message=message)])


def _field_error(details: ErrorDetails) -> FieldError:
    message = details["msg"]
    for pattern, plain in _PLAIN:
        message = pattern.sub(plain, message)
    return FieldError(field=".".join(map(str, details["loc"])), message=message)
