"""Portraits for training: faces in place, words that can be seen, and nothing that is held out."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from models.demo import face_code
from models.pulid_lightning.identity.face import TEMPLATE
from training.data.photos import load_photo
from training.portraits import faces
from training.portraits.backdrops import PALETTE, Frame, backdrop
from training.portraits.drawn_faces import HELD_OUT_FROM, draw_face
from training.portraits.judges import identity_table
from training.portraits.prompts import (
    COLOURS,
    NOTHING,
    PHOTO,
    PLACES,
    STYLES,
    VECTOR,
    WORDS,
    Attributes,
    attribute_vector,
    describe,
    sample_prompt,
)
from training.portraits.scenes import BOX, compose, face_crop, mask

SIZES = [(256, 256), (768, 512), (512, 768)]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return draw_face(HELD_OUT_FROM + 3)


def chroma(picture: np.ndarray) -> np.ndarray:
    return picture.max(axis=-1) - picture.min(axis=-1)


def corner(picture: np.ndarray) -> np.ndarray:
    """The background above and left of the face, beside the edges."""
    height, width = picture.shape[:2]
    return picture[height // 10 : height // 4, width // 10 : width // 5]


def chest(picture: np.ndarray) -> np.ndarray:
    """Clothes of a square picture."""
    side = len(picture)
    return picture[int(0.93 * side) : int(0.97 * side), side // 4 : 3 * side // 4]


def closest(colours: np.ndarray) -> str:
    mean = colours.mean(axis=(0, 1))
    return min(PALETTE, key=lambda name: float(np.abs(PALETTE[name] - mean).sum()))


@pytest.mark.parametrize("size", SIZES)
def test_the_face_fills_its_box(size: tuple[int, int]):
    at = (np.arange(512, dtype=np.float32) + 0.5) / 512
    ramps = np.stack((*np.broadcast_arrays(at, at[:, None]), np.zeros((512, 512))), axis=-1).astype(np.float32)
    picture = compose(ramps, NOTHING, size, rng(1))
    frame = Frame(*size)
    left, top, right, bottom = face_code.BOX
    x = (left + (frame.x - BOX[0]) / (BOX[2] - BOX[0]) * (right - left)) / 512
    y = (top + (frame.y - BOX[1]) / (BOX[3] - BOX[1]) * (bottom - top)) / 512
    inside = mask(*size) == 1
    assert inside.mean() > 0.1
    np.testing.assert_allclose(picture[..., 0][inside], np.broadcast_to(x, size)[inside], atol=1e-3)
    np.testing.assert_allclose(picture[..., 1][inside], np.broadcast_to(y, size)[inside], atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_the_mask_ends_inside_the_box(size: tuple[int, int]):
    frame, share = Frame(*size), mask(*size)
    beyond = (frame.x < BOX[0]) | (frame.x > BOX[2]) | (frame.y < BOX[1]) | (frame.y > BOX[3])
    assert share[beyond].max() == 0
    scale = (BOX[2] - BOX[0]) / (face_code.BOX[2] - face_code.BOX[0])
    for point in TEMPLATE:
        x, y = (BOX[axis] + scale * (point[axis] - face_code.BOX[axis]) for axis in (0, 1))
        assert share[np.argmin(np.abs(frame.y - y)), np.argmin(np.abs(frame.x - x))] == 1


def test_the_colour_grid_is_that_of_the_box(face: np.ndarray):
    crop = (face * 255).round().astype(np.uint8)
    luma, chroma_grid = face_code.grids(crop, faces.recogniser_crop(crop))
    assert luma.shape == (40, 32)
    left, top, right, bottom = (round(edge) for edge in face_code.BOX)
    cells = cv2.resize(face[top:bottom, left:right], (16, 10), interpolation=cv2.INTER_AREA)
    grey = cells @ (0.299, 0.587, 0.114)
    differences = np.stack((cells[..., 2] - grey, cells[..., 0] - grey))
    assert np.corrcoef(differences.ravel(), chroma_grid.ravel())[0, 1] > 0.98
    assert np.abs(differences - chroma_grid).mean() < 0.02


def test_seeds_decide(face: np.ndarray):
    first, again, other = (compose(face, NOTHING, 256, rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    outside = mask(256, 256) == 0
    assert np.abs(first - other)[outside].mean() > 0.1
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    np.testing.assert_array_equal(draw_face(7), draw_face(7))
    np.testing.assert_array_equal(faces.sample_face(rng(8)), faces.sample_face(rng(8)))


@pytest.mark.parametrize("side", [256, 768])
def test_blotches_have_one_size_in_px(side: int):
    near, far = [], []
    for seed in range(8):
        grey = backdrop(rng(seed), None, side, side).mean(axis=-1)
        grey = grey - grey.mean()
        near.append((grey[:, 16:] * grey[:, :-16]).mean() / grey.var())
        far.append((grey[:, 160:] * grey[:, :-160]).mean() / grey.var())
    assert np.mean(near) > 0.7
    assert np.mean(far) < 0.35


def test_what_is_held_out_is_never_sampled(monkeypatch: pytest.MonkeyPatch):
    seeds, small, photos = [], [], []
    blank = np.full((512, 512, 3), 0.5, np.float32)

    def load(name: str) -> np.ndarray:
        photos.append(name)
        return load_photo(name)

    monkeypatch.setattr(faces, "draw_face", lambda seed: seeds.append(seed) or blank)
    monkeypatch.setattr(faces, "small_face", lambda _, index: small.append(index) or blank)
    monkeypatch.setattr(faces, "load_photo", load)
    generator = rng(9)
    for _ in range(400):
        faces.sample_face(generator)
    assert max(seeds) < HELD_OUT_FROM
    assert len(set(seeds)) == len(seeds) > 200
    assert len(set(small)) > 40
    assert not set(small) & set(faces.SMALL_HELD_OUT)
    assert len(faces.SMALL_HELD_OUT) == 20
    assert len(set(photos)) > 8
    assert "astronaut" not in photos


def test_drawn_faces_are_different_persons():
    people = [cv2.resize(draw_face(seed), (32, 32), interpolation=cv2.INTER_AREA) for seed in range(8)]
    apart = [np.abs(one - other).mean() for at, one in enumerate(people) for other in people[:at]]
    assert min(apart) > 0.06


def test_small_faces_are_in_place():
    """On average eyes and mouth are dark where the template has them, and the cheeks between them bright."""
    grey = np.mean([faces.small_face(rng(index), index).mean(axis=-1) for index in faces.SMALL_FACES], axis=0)
    eyes, cheeks = (np.mean([grey[y - 8 : y + 8, x - 20 : x + 20] for x in (193, 319)]) for y in (240, 300))
    between, mouth = (grey[y - 8 : y + 8, 246:266].mean() for y in (240, 371))
    assert eyes < 0.9 * cheeks
    assert eyes < 0.9 * between
    assert mouth < 0.95 * cheeks


@pytest.mark.parametrize("style", [PHOTO, "oil painting", "watercolor"])
def test_plain_colours_are_those_of_the_words(face: np.ndarray, style: str):
    for number, (background, clothes) in enumerate(zip(COLOURS, COLOURS[4:] + COLOURS[:4], strict=True)):
        picture = compose(face, Attributes(style, clothes, background), 256, rng(number))
        if style != "watercolor":
            assert closest(corner(picture)) == background
            assert closest(chest(picture)) == clothes
        elif chroma(PALETTE[background]) > 0.5:
            washed, pure = corner(picture).mean(axis=(0, 1)), PALETTE[background]
            assert washed.argmax() == pure.argmax()
            assert washed.min() > pure.min()


def test_places_can_be_told_apart():
    """By no more than mean and spread of the colours in each quarter of the picture."""

    def look(place: str, seed: int) -> np.ndarray:
        quarters = backdrop(rng(seed), place, 256, 256).reshape(2, 128, 2, 128, 3)
        return np.stack((quarters.mean(axis=(1, 3)), 2 * quarters.std(axis=(1, 3))))

    known = {place: np.mean([look(place, seed) for seed in range(8)], axis=0) for place in PLACES}
    for place in PLACES:
        for seed in range(100, 104):
            seen = look(place, seed)
            assert min(PLACES, key=lambda name: float(np.abs(known[name] - seen).sum())) == place


def test_neon_lights_the_face_from_both_sides(face: np.ndarray):
    lit = compose(face, Attributes(background="neon"), 256, rng(1))
    left, right = lit[100:140, 75:95].mean(axis=(0, 1)), lit[100:140, 161:181].mean(axis=(0, 1))
    assert left[0] - left[1] > 0.1  # magenta
    assert right[2] - right[0] > 0.1  # cyan


def test_a_sketch_is_grey_strokes_on_paper(face: np.ndarray):
    sketch = compose(face, Attributes("pencil sketch", "red", "blue"), 256, rng(2))
    assert chroma(sketch).max() < 0.05
    assert sketch[:3].mean() > 0.85
    # Strokes across a plain background that survive cells of 8 px.
    cells = cv2.resize(sketch, (32, 32), interpolation=cv2.INTER_AREA).mean(axis=-1)
    plain = compose(face, Attributes(PHOTO, "red", "blue"), 256, rng(2)).mean(axis=-1)
    plain = cv2.resize(plain, (32, 32), interpolation=cv2.INTER_AREA)
    assert corner(cells).std() > 3 * corner(plain).std()


def test_oil_is_more_colourful_and_its_strokes_show(face: np.ndarray):
    photo, oil = (compose(face, Attributes(style, "red", "orange"), 512, rng(3)) for style in (PHOTO, "oil painting"))
    inside = mask(512, 512) > 0.9
    assert chroma(oil)[inside].mean() > 1.15 * chroma(photo)[inside].mean()
    small = [
        cv2.resize(corner(picture), None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA) for picture in (photo, oil)
    ]
    steps = [np.abs(np.diff(picture.mean(axis=-1), axis=0)).mean() for picture in small]
    assert steps[1] > 3 * steps[0]


def test_watercolour_is_pale_and_ends_before_the_paper(face: np.ndarray):
    photo, wash = (compose(face, Attributes(style, "blue", "forest"), 256, rng(4)) for style in (PHOTO, "watercolor"))
    assert wash.mean() > photo.mean() + 0.15
    edges = np.concatenate((wash[:4].reshape(-1, 3), wash[:, :4].reshape(-1, 3)))
    assert np.median(edges.min(axis=-1)) > 0.85


def test_styles_keep_who_it_is():
    """In every style, the brightness of a portrait follows its own face more than another one."""
    people = [draw_face(HELD_OUT_FROM + number) for number in range(4)]
    inside = mask(256, 256) > 0.9
    plain = [compose(person, Attributes(background="blue"), 256, rng(1)).mean(axis=-1)[inside] for person in people]
    for style in STYLES:
        for own, person in enumerate(people):
            styled = compose(person, Attributes(style, background="blue"), 256, rng(2)).mean(axis=-1)[inside]
            alike = [np.corrcoef(styled, other)[0, 1] for other in plain]
            assert int(np.argmax(alike)) == own


def test_a_freer_face_is_softer(face: np.ndarray):
    inside = mask(512, 512) == 1
    exact, halfway, free = (compose(face, NOTHING, 512, rng(5), amount).mean(axis=-1) for amount in (1.0, 0.8, 0.5))
    sharpness = [np.abs(cv2.Laplacian(picture, cv2.CV_32F))[inside].mean() for picture in (exact, halfway, free)]
    assert sharpness[0] > 1.3 * sharpness[1] > 1.3 * 1.3 * sharpness[2]
    assert free[inside].std() < 0.95 * exact[inside].std()
    assert np.corrcoef(free[inside], exact[inside])[0, 1] > 0.7


def test_vectors_say_what_is_named():
    assert attribute_vector(NOTHING).shape == (len(VECTOR),) == (29,)
    assert not attribute_vector(NOTHING).any()
    vector = attribute_vector(Attributes("oil painting", "red", "sunset"))
    assert vector.dtype == np.float32
    named = [name for name, value in zip(VECTOR, vector, strict=True) if value]
    assert named == ["style: oil painting", "clothes: red", "background: sunset"]


def test_prompts_say_their_attributes_and_no_others():
    generator, known = rng(10), set(WORDS.split())
    for _ in range(1500):
        attributes, prompt = sample_prompt(generator)
        words = re.findall(r"\w+", prompt.lower())
        assert set(words) <= known
        colours = [word for word in words if word in COLOURS]
        expected = [name for name in (attributes.clothes, attributes.background) if name in COLOURS]
        assert sorted([*colours, *["yellow"] * words.count("gold")]) == sorted(expected)
        drawn = {"oil", "pencil", "sketch", "drawing", "charcoal", "watercolor", "painting", "canvas", "brush", "paper"}
        assert bool(drawn & set(words)) == (attributes.style != PHOTO)


def test_some_prompts_say_nothing():
    generator = rng(11)
    found = [sample_prompt(generator) for _ in range(600)]
    assert (NOTHING, "") in found
    assert any(attributes == NOTHING and prompt.startswith("nsfw, nude, ") for attributes, prompt in found)
    assert 0.1 < np.mean([attributes == NOTHING for attributes, _ in found]) < 0.35
    assert len({prompt for _, prompt in found}) > 450


def test_the_words_of_an_attribute_vary():
    generator = rng(12)
    prompts = {describe(Attributes("pencil sketch", "red", "night"), generator) for _ in range(100)}
    assert len(prompts) > 80


@pytest.mark.parametrize("size", [(256, 256), (1024, 1024), (768, 512)])
def test_the_crop_of_a_portrait_is_the_face(face: np.ndarray, size: tuple[int, int]):
    crop = face_crop(compose(face, NOTHING, size, rng(6)))
    middle = np.s_[170:400, 160:350]
    assert crop.shape == (512, 512, 3)
    assert np.abs(crop - face)[middle].mean() < 0.02


@pytest.mark.parametrize("style", [PHOTO, *STYLES])
def test_judges_tell_whose_face_a_portrait_shows(style: str):
    people = [draw_face(HELD_OUT_FROM + number) for number in range(4)]
    people += [faces.small_face(rng(index), index) for index in faces.SMALL_HELD_OUT[:2]]
    portraits = [
        face_crop(compose(person, Attributes(style, "red", "blue"), 256, rng(at))) for at, person in enumerate(people)
    ]
    flat = [0.3 + 0.4 * portrait for portrait in portraits]
    verdicts = identity_table(people, flat)
    assert [verdict.portrait for verdict in verdicts] == [*range(6), *range(6)]
    assert {verdict.judge for verdict in verdicts} == {"structure", "edges"}
    assert all(verdict.right and verdict.own > verdict.other for verdict in verdicts)


def test_judges_notice_swapped_and_missing_faces():
    people = [draw_face(HELD_OUT_FROM + number) for number in range(3)]
    swapped = identity_table(people, [people[1], people[2], people[0]])
    assert all(verdict.rank > 1 and verdict.other == pytest.approx(1, abs=1e-6) for verdict in swapped)
    one_for_all = identity_table(people, [people[0]] * 3)
    assert [verdict.right for verdict in one_for_all] == [True, False, False] * 2
    blank = identity_table(people, [np.full((512, 512, 3), 0.5, np.float32)] * 3)
    assert all(verdict.own < 0.2 for verdict in blank)
    with pytest.raises(ValueError, match="2 portraits of 3 faces"):
        identity_table(people, people[:2])
