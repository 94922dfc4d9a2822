"""Validates request bodies as parameters of a model; errors are readable messages per field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from models.model import Model
from models.params import CommonParams
from server.errors import InvalidParameters, field_error
from server.intake.body import Body
from server.schemas import FieldError

Shape = TypeVar("Shape", bound=BaseModel)
References = Mapping[str, str | bytes]
"""By image field that is present: the caller's reference to an image, or the bytes of a file part."""

_ATTACHED: Final = "attached"


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
        raise InvalidParameters([field_error(details) for details in error.errors(include_url=False)]) from error


def _check_output(params: CommonParams, max_megapixels: float) -> None:
    width, height = params.output_size
    megapixels = params.number_of_images * width * height / 1e6
    if megapixels > max_megapixels:
        message = (
            f"{params.number_of_images} pictures of {width} x {height} pixels are {megapixels:.1f} megapixels; "
            f"at most {max_megapixels:g} are drawn per request"
        )
        raise InvalidParameters([FieldError(field="number_of_images", message=message)])
