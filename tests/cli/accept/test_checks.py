"""Every check passes prepared good pictures and fails prepared bad ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data

from cli.accept.checks import files, identity, image, light, repeats, subject
from cli.accept.local_weights import recogniser_of
from cli.accept.photos import ASTRONAUT, CAT, CUP, PHOTOS
from cli.accept.result import Outcome
from models.imaging.encode import encode
from models.pulid_lightning.identity.face import FaceFinder
from models.weights.installed import WeightSet
from tests.cli.accept.pictures import blurred, brightened, fitted, jpeg, noise, relit, uniform

PASSED, FAILED = Outcome.PASSED, Outcome.FAILED
SIDES = [(light.HORIZONTAL, "Left Light", "Right Light"), (light.VERTICAL, "Top Light", "Bottom Light")]


@pytest.fixture(scope="module")
def finder(demo_weights) -> FaceFinder:
    return FaceFinder(WeightSet.open(demo_weights, "pulid-lightning").folder("face_analysis"))


class TestFiles:
    @pytest.mark.parametrize("image_format", ["png", "jpg", "webp"])
    def test_a_file_is_known_by_its_bytes(self, image_format):
        media_type = "image/jpeg" if image_format == "jpg" else f"image/{image_format}"
        assert files.right_format(encode(fitted(CAT), image_format, 80), media_type, image_format).outcome is PASSED

    @pytest.mark.parametrize(
        ("encoded_as", "declared"), [("png", "image/webp"), ("webp", "image/png"), ("jpg", "image/jpeg")]
    )
    def test_neither_file_nor_declaration_may_be_another(self, encoded_as, declared: str):
        result = files.right_format(encode(uniform(), encoded_as, 80), declared, "webp")
        assert result.outcome is FAILED
        assert declared in result.message

    def test_bytes_that_are_no_picture_fail(self):
        result = files.right_format(b"<html>", "image/png", "png")
        assert result.outcome is FAILED
        assert "no picture" in result.message

    def test_one_wrong_size_among_right_ones_fails(self):
        assert files.right_size([(768, 960)] * 3, (768, 960)).outcome is PASSED
        result = files.right_size([(768, 960), (960, 768)], (768, 960))
        assert result.outcome is FAILED
        assert "960 × 768" in result.message
        assert files.right_size([], (768, 960)).outcome is FAILED


class TestRepeats:
    def test_one_level_in_one_pixel_is_another_picture(self):
        first = fitted(CAT)
        assert repeats.same(first, first.copy()).outcome is PASSED
        second = first.copy()
        second[5, 5, 1] ^= 1
        assert repeats.same(first, second).outcome is FAILED
        assert repeats.same(first, first[:-1]).outcome is FAILED

    def test_another_seed_must_not_give_the_same_picture_however_encoded(self):
        first = fitted(CAT)
        assert repeats.different(first, fitted(CUP)).outcome is PASSED
        assert repeats.different(noise(), noise(seed=1)).outcome is PASSED
        assert repeats.different(first, first).outcome is FAILED
        assert repeats.different(first, jpeg(first, 90)).outcome is FAILED
        assert repeats.different(first, first[:-1]).outcome is FAILED

    def test_v1_and_v2_agree_in_picture_and_seed(self):
        first = fitted(CAT)
        assert repeats.agree(first, first, (7, 7)).outcome is PASSED
        assert repeats.agree(first, first, (7, 8)).outcome is FAILED
        assert repeats.agree(first, fitted(CUP), (7, 7)).outcome is FAILED


class TestImageQuality:
    @pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket", "camera", "retina", "page"])
    @pytest.mark.parametrize("side", [512, 1024])
    def test_photos_pass(self, name: str, side: int):
        photo = Image.fromarray(getattr(data, name)()).convert("RGB")
        picture = np.asarray(ImageOps.fit(photo, (side, side), Image.Resampling.LANCZOS))
        assert image.image_quality([picture]).outcome is PASSED

    @pytest.mark.parametrize("photo", PHOTOS)
    @pytest.mark.parametrize("light_source", ["Left Light", "Bottom Light"])
    def test_relit_and_blurred_photos_pass(self, photo, light_source: str):
        assert image.image_quality([relit(blurred(fitted(photo), 2), light_source)]).outcome is PASSED

    @pytest.mark.parametrize("grain", [1, 4, 8, 16])
    def test_noise_of_any_grain_fails(self, grain: int):
        assert image.image_quality([fitted(CAT), noise(grain=grain)]).outcome is FAILED

    @pytest.mark.parametrize("picture", [uniform(), np.zeros((64, 64, 3), np.uint8), brightened(fitted(CAT), 0.05)])
    def test_a_uniform_image_fails(self, picture):
        result = image.image_quality([fitted(CAT), picture])
        assert result.outcome is FAILED
        assert "uniform" in result.message

    def test_a_bare_ramp_fails(self):
        result = image.image_quality([relit(np.full((960, 768, 3), 255, np.uint8), "Top Light")])
        assert result.outcome is FAILED
        assert "ramp" in result.message


class TestIdentity:
    """Thresholds on prepared embeddings; what is and is not a face on the pipeline's own finder."""

    PHOTO = np.eye(512, dtype=np.float32)[0] * 21

    def like(self, cosine: float) -> np.ndarray:
        """A face of that likeness to `PHOTO`, of another length."""
        other = np.eye(512, dtype=np.float32)[1]
        return (self.PHOTO / 21 * cosine + other * np.sqrt(1 - cosine**2)) * 17

    @pytest.mark.parametrize(
        ("cosine", "face_style", "outcome"),
        [
            (1.0, "high-fidelity", PASSED),
            (0.41, "high-fidelity", PASSED),
            (0.39, "high-fidelity", FAILED),
            (0.31, "stylized", PASSED),
            (0.29, "stylized", FAILED),
            (0.0, "stylized", FAILED),
            (-0.5, "stylized", FAILED),
        ],
    )
    def test_likeness_is_held_against_the_styles_own_threshold(self, cosine: float, face_style: str, outcome: Outcome):
        result = identity.same_person(self.PHOTO, [self.like(cosine)], face_style)
        assert result.outcome is outcome
        assert result.value == pytest.approx(cosine, abs=1e-6)
        assert result.threshold == identity.THRESHOLDS[face_style]

    def test_the_median_portrait_counts(self):
        likes = [self.like(0.1), self.like(0.6), self.like(0.7)]
        assert identity.same_person(self.PHOTO, likes, "high-fidelity").value == pytest.approx(0.6)

    def test_every_portrait_must_show_a_face(self):
        result = identity.same_person(self.PHOTO, [self.PHOTO, None], "stylized")
        assert result.outcome is FAILED
        assert "1 of 2" in result.message
        assert identity.same_person(None, [self.PHOTO], "stylized").outcome is FAILED
        assert identity.same_person(self.PHOTO, [], "stylized").outcome is FAILED

    @pytest.mark.parametrize(
        "change",
        [
            jpeg,
            pytest.param(brightened, marks=pytest.mark.slow),
            pytest.param(lambda picture: picture[:400, 40:440], marks=pytest.mark.slow),
        ],
    )
    def test_the_same_photo_recompressed_brightened_or_cropped_passes(self, finder: FaceFinder, change):
        describe = recogniser_of(finder)
        photo = ASTRONAUT.pixels()
        found = describe(np.ascontiguousarray(change(photo)))
        assert identity.same_person(describe(photo), [found], "high-fidelity").outcome is PASSED

    @pytest.mark.parametrize(
        "picture",
        [
            pytest.param(CAT.pixels(), marks=pytest.mark.slow),
            noise(512, 512, 8),
            pytest.param(uniform(512, 512), marks=pytest.mark.slow),
        ],
    )
    def test_pictures_without_a_face_fail(self, finder: FaceFinder, picture):
        describe = recogniser_of(finder)
        result = identity.same_person(describe(ASTRONAUT.pixels()), [describe(picture)], "stylized")
        assert result.outcome is FAILED
        assert "No face" in result.message


class TestLight:
    @pytest.mark.parametrize("photo", PHOTOS)
    @pytest.mark.parametrize(("pair", "near", "far"), SIDES)
    def test_swapped_lights_fail(self, photo, pair, near: str, far: str):
        picture = fitted(photo)
        right_way = light.lit_from(pair, [relit(picture, near)], [relit(picture, far)])
        swapped = light.lit_from(pair, [relit(picture, far)], [relit(picture, near)])
        assert right_way.outcome is PASSED
        assert right_way.value > 3
        assert swapped.outcome is FAILED
        assert "wrong side" in swapped.message

    @pytest.mark.parametrize("photo", PHOTOS)
    @pytest.mark.parametrize(("pair", "near", "far"), SIDES)
    def test_light_from_another_side_is_too_little(self, photo, pair, near: str, far: str):
        picture = fitted(photo)
        across = "Top Light" if near == "Left Light" else "Right Light"
        for same in ([picture, picture], [relit(picture, across)] * 2):
            result = light.lit_from(pair, same[:1], same[1:])
            assert result.outcome is FAILED
            assert "too little" in result.message

    def test_black_halves_have_a_finite_quotient(self):
        black = np.zeros((10, 10, 3), np.uint8)
        half = black.copy()
        half[:, :5] = 255
        assert light.lit_from(light.HORIZONTAL, [half], [half[:, ::-1]]).value == pytest.approx(256**2)
        assert light.lit_from(light.HORIZONTAL, [black], [black]).outcome is FAILED


class TestSubject:
    @pytest.mark.parametrize("photo", PHOTOS)
    @pytest.mark.parametrize("size", [(768, 960), (1024, 640)])
    def test_a_relit_subject_before_another_background_is_kept(self, photo, size: tuple[int, int]):
        picture = fitted(photo, *size)
        lit = [relit(picture, source) for source in ("Left Light", "Right Light", "Top Light", "Bottom Light")]
        assert subject.kept(photo.pixels(), photo.subject, lit).value > 0.8
        soft = [blurred(picture, 5) for picture in lit]
        assert subject.kept(photo.pixels(), photo.subject, soft).outcome is PASSED

    @pytest.mark.parametrize("photo", PHOTOS)
    def test_a_third_of_noise_passes(self, photo):
        picture = (0.67 * fitted(photo) + 0.33 * noise(grain=8)).astype(np.uint8)
        assert subject.kept(photo.pixels(), photo.subject, [picture]).outcome is PASSED

    @pytest.mark.parametrize("photo", PHOTOS)
    def test_another_subject_or_none_is_not_kept(self, photo):
        others = [fitted(other) for other in PHOTOS if other != photo]
        for picture in (*others, noise(), noise(grain=8), uniform()):
            result = subject.kept(photo.pixels(), photo.subject, [picture])
            assert result.outcome is FAILED
            assert abs(result.value) < 0.15
