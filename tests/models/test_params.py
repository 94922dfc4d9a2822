"""Parameters take what clients of the hosted API send, and refuse the rest with the field's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.catalog import MODELS
from models.ic_light.params import SIDES
from models.ic_light.params import Params as IcLight
from models.model import Model
from models.params import CommonParams
from models.pulid_lightning.params import Params as Pulid


def ic_light(**body: object) -> IcLight:
    return IcLight.model_validate({"subject_image": "x", "prompt": "cat", **body})


def pulid(**body: object) -> Pulid:
    return Pulid.model_validate({"face_image": "x", **body})


def test_defaults_are_those_of_the_api_pages() -> None:
    assert pulid().model_dump() == {
        "face_image": "x",
        "prompt": "A photo of a person",
        "negative_prompt": "",
        "checkpoint_model": "default",
        "face_style": "high-fidelity",
        "width": 1024,
        "height": 1024,
        "number_of_images": 1,
        "seed": -1,
        "output_format": "png",
        "output_quality": 80,
    }
    assert ic_light().model_dump() == {
        "subject_image": "x",
        "prompt": "cat",
        "appended_prompt": "best quality",
        "negative_prompt": "lowres, bad anatomy, bad hands, cropped, worst quality",
        "light_source": "None",
        "width": 512,
        "height": 640,
        "steps": 25,
        "cfg": 2.0,
        "lowres_denoise": 0.9,
        "highres_scale": 1.5,
        "highres_denoise": 0.5,
        "number_of_images": 1,
        "seed": -1,
        "output_format": "webp",
        "output_quality": 80,
        "background_image": None,
    }


def test_every_example_is_valid() -> None:
    for model in MODELS.values():
        params = model.params.model_validate(model.example)
        assert params.model_dump(exclude_unset=True) == model.example


@pytest.mark.parametrize("absent", [None, "None"])
def test_old_samples_send_words_for_nothing(absent: object) -> None:
    assert ic_light(negative_prompt=absent, light_source=absent) == ic_light()
    assert pulid(negative_prompt=absent) == pulid()
    assert pulid(prompt="None").prompt == "None", "elsewhere the word is a word"


def test_null_is_absent_everywhere() -> None:
    names = [name for name in IcLight.model_fields if name not in ("prompt", "subject_image")]
    assert ic_light(**dict.fromkeys(names)) == ic_light()


def test_numbers_come_as_strings_too() -> None:
    params = ic_light(width="768", steps="10", cfg="3.5", seed="7", highres_scale="1", height=512.0)
    assert (params.width, params.steps, params.cfg, params.seed, params.height) == (768, 10, 3.5, 7, 512)


def test_unknown_fields_are_ignored() -> None:
    assert pulid(base64=False, samples=1, scheduler="x") == pulid()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 500),
        ("width", "wide"),
        ("height", 0),
        ("steps", 0),
        ("steps", 101),
        ("cfg", 0.5),
        ("cfg", "nan"),
        ("highres_scale", float("inf")),
        ("lowres_denoise", 0.05),
        ("highres_denoise", 1.1),
        ("light_source", "Front Light"),
        ("number_of_images", 13),
        ("output_format", "gif"),
        ("output_quality", 101),
        ("prompt", "x" * 10_001),
        ("prompt", 5),
        ("subject_image", ""),
        ("seed", "random"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refusal:
        ic_light(**{field: value})
    assert [error["loc"][0] for error in refusal.value.errors()] == [field]


@pytest.mark.parametrize("side", [255, 2049, -8, "x"])
def test_portraits_have_bounded_sides(side: object) -> None:
    with pytest.raises(ValidationError):
        pulid(width=side)


@given(width=st.integers(256, 2048), height=st.integers(256, 2048))
def test_portrait_sides_are_floored_to_8(width: int, height: int) -> None:
    size = pulid(width=width, height=height).output_size
    assert all(side % 8 == 0 and 0 <= asked - side < 8 for side, asked in zip(size, (width, height), strict=True))


@given(seed=st.integers())
def test_any_integer_is_a_seed(seed: int) -> None:
    params = pulid(seed=seed)
    assert params.seed == -1 if seed == -1 else 0 <= params.seed < 2**53
    assert pulid(seed=params.seed) == params


@pytest.mark.parametrize(
    ("side", "scale", "enlarged"), [(512, 1.5, 768), (448, 1.5, 640), (320, 1.5, 512), (832, 1.5, 1280), (256, 1, 256)]
)
def test_the_second_pass_rounds_ties_to_even_tiles(side: int, scale: float, enlarged: int) -> None:
    assert ic_light(width=side, height=side, highres_scale=scale).output_size == (enlarged, enlarged)


@given(st.sampled_from(SIDES), st.sampled_from(SIDES), st.floats(1, 3))
def test_the_output_is_whole_tiles_near_the_scale(width: int, height: int, scale: float) -> None:
    size = ic_light(width=width, height=height, highres_scale=scale).output_size
    for side, asked in zip(size, (width, height), strict=True):
        assert side % 64 == 0
        assert abs(side - asked * scale) <= 32 + 1e-6


@given(st.dictionaries(st.text(max_size=20), st.none() | st.booleans() | st.floats() | st.text(max_size=20)))
def test_no_body_breaks_validation(body: dict) -> None:
    for model in MODELS.values():
        try:
            params = model.params.model_validate(body)
        except ValidationError:
            continue
        assert isinstance(params, CommonParams)
        assert model.params.model_validate(params.model_dump(mode="json")) == params


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_extensions_are_optional_and_marked_as_such(model: Model) -> None:
    schema = model.params.model_json_schema()
    marked = {name for name, field in schema["properties"].items() if field.get("x-extension")}
    assert marked == ({"background_image"} if model.slug == "ic-light" else set())
    assert not marked & set(schema["required"])
    for name in marked:
        assert "Extension" in schema["properties"][name]["description"]
        assert "default" not in schema["properties"][name]
        assert model.params.model_fields[name].default is None


def test_the_field_that_chooses_the_variant_chooses_every_variant() -> None:
    assert pulid().variant == Pulid.variants[0]
    assert [pulid(checkpoint_model=name).variant for name in Pulid.variants] == list(Pulid.variants)
    assert [ic_light(background_image=image).variant for image in (None, "b")] == list(IcLight.variants)
    assert all(model.params.variant_field in model.params.model_fields for model in MODELS.values())


@pytest.mark.parametrize(
    "params",
    [pulid(number_of_images=2), pulid(width=2048), ic_light(number_of_images=2), ic_light(width=1024, highres_scale=2)],
    ids=["two portraits", "a large portrait", "two relit pictures", "a large relit picture"],
)
def test_requests_that_fill_the_device_share_it_with_nobody(params: CommonParams) -> None:
    assert params.batch_hint == ""


def test_requests_of_one_shape_may_differ_in_what_does_not_touch_the_work() -> None:
    assert (
        pulid().batch_hint
        == pulid(prompt="a sailor", seed=3, checkpoint_model="artistic", output_format="jpg").batch_hint
    )
    assert ic_light().batch_hint == ic_light(prompt="dog", seed=3, output_quality=5, lowres_denoise=0.4).batch_hint
    lit = ic_light(light_source="Left Light")
    assert lit.batch_hint == ic_light(light_source="Right Light").batch_hint != ic_light().batch_hint
    assert lit.batch_hint != ic_light(light_source="Left Light", lowres_denoise=0.4).batch_hint
