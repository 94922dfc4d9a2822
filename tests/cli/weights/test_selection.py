"""Which weights are taken: what is there, else the defaults, unless the operator says otherwise."""

from __future__ import annotations

import pytest

from cli.weights.selection import SelectionOptions, select, slot_of
from models.errors import WeightsError
from models.weights.installed import InstalledWeight
from models.weights.lock import Lock, Weight
from tests.cli.weights.making import file, weight

SOURCE = {"url": "https://host/"}


def entry(name: str, role: str, slug: str = "ic-light", **fields: object) -> Weight:
    return weight(name, SOURCE, file(name, b"x"), role=role, used_by=[slug], **fields)


LOCK = Lock(
    weights=[
        entry("base", "sd15", default=True),
        entry("bigger", "sd15"),
        entry("rmbg", "rmbg", default=True, commercial=False),
        entry("birefnet", "matting_onnx_birefnet"),
        entry("isnet", "matting_onnx_isnet"),
        entry("background", "ic_light_fbc", optional=True),
        entry("face", "face_analysis", "pulid-lightning", default=True, commercial=False),
        entry("face-too", "face_analysis", "pulid-lightning", commercial="restricted"),
    ]
)


def installed(name: str) -> InstalledWeight:
    role = LOCK.named(name).role
    return InstalledWeight(name=name, role=role, path=name, used_by=["ic-light"], licence="MIT", files=[])


def chosen(*kept: str, **options: object) -> list[str]:
    return [weight.name for weight in select(LOCK, map(installed, kept), SelectionOptions(**options)).weights]


def test_defaults_are_taken_and_what_has_none_is_not():
    assert chosen() == ["base", "rmbg", "face"]


def test_one_model_alone():
    assert chosen(only="ic-light") == ["base", "rmbg"]


def test_a_named_weight_replaces_the_default_of_its_role():
    assert chosen(use=["bigger", "background"]) == ["bigger", "rmbg", "background", "face"]


def test_matting_roles_drop_each_other():
    assert {slot_of(role) for role in ("rmbg", "matting_onnx_birefnet", "matting_onnx_isnet")} == {"matting"}
    assert chosen(use=["isnet"]) == ["base", "isnet", "face"]


def test_an_earlier_choice_is_kept():
    assert chosen("bigger", "isnet", "background") == ["bigger", "isnet", "background", "face"]
    assert chosen("isnet", use=["rmbg"]) == ["base", "rmbg", "face"]


def test_commercial_use_takes_what_is_allowed_and_tells_what_is_lacking():
    selection = select(LOCK, [], SelectionOptions(commercial=True))
    assert [weight.name for weight in selection.weights] == ["base", "birefnet"]
    assert {slot: [weight.name for weight in found] for slot, found in selection.unfilled.items()} == {
        "face_analysis": ["face", "face-too"]
    }


def test_a_named_weight_is_the_operators_own_responsibility():
    selection = select(LOCK, [installed("isnet")], SelectionOptions(commercial=True, use=["face"]))
    assert [weight.name for weight in selection.weights] == ["base", "isnet", "face"]
    assert not selection.unfilled


def test_an_earlier_choice_without_permission_is_not_kept_for_commercial_use():
    assert chosen("rmbg", commercial=True) == ["base", "birefnet"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"use": ["nothing"]}, "no weight 'nothing'"),
        ({"use": ["rmbg", "isnet"]}, "rmbg and isnet exclude each other"),
        ({"use": ["face"], "only": "ic-light"}, "face is not used by ic-light but by pulid-lightning"),
    ],
)
def test_impossible_choices_are_refused(options: dict[str, object], reason: str):
    with pytest.raises(WeightsError, match=reason):
        chosen(**options)
