"""Stills cut by their shape, against InternVL's processor."""

import dataclasses

import pytest

pytest.importorskip("torch")  # which tests that others are imported from need
from tests.prompts.test_reference_chat import Intern, photo, same, video  # noqa: E402
from vjax.prompts.pixels import Picture  # noqa: E402
from vjax.prompts.processors import crops  # noqa: E402

torch = pytest.importorskip("torch")
got_ocr2 = pytest.importorskip("transformers.models.got_ocr2.image_processing_got_ocr2")


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return Intern(tmp_path_factory.mktemp("internvl"))


@pytest.mark.parametrize("size", [(60, 90), (40, 170), (300, 200), (56, 56), (10, 20)], ids=str)
def test_stills_are_cut_as_transformers_cuts_them(family, size):
    image = photo(*size)
    rule = crops.from_folder(family.folder, family.spec, video=False)
    want = family.processor.image_processor(
        torch.from_numpy(image.transpose(2, 0, 1)), crop_to_patches=True
    )
    same(rule.squares(Picture("image", (image,))), want["pixel_values"], rule.std)


@pytest.mark.parametrize(("least", "most"), [(1, 12), (4, 6), (1, 1)])
def test_grids_are_those_of_transformers(family, least, most):
    rule = crops.from_folder(family.folder, family.spec, video=False)
    rule = dataclasses.replace(rule, side=448, least=least, most=most)
    for height in range(50, 1500, 61):
        for width in (30, 224, 448, 640, 897, 1344, 4000):
            want = got_ocr2.get_optimal_tiled_canvas((height, width), (448, 448), least, most)
            assert rule.grid(height, width) == want[::-1]


def test_frames_are_not_cut(family):
    rule = crops.from_folder(family.folder, family.spec, video=True)
    frames = video(3, 97, 250)
    tensors = torch.stack([torch.from_numpy(frame.transpose(2, 0, 1)) for frame in frames])
    want = family.processor.video_processor([tensors])["pixel_values_videos"][0]
    same(rule.squares(Picture("video", frames)), want, rule.std)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"height": 64, "width": 64}}, "64.*the tower takes 56 x 56"),
        ({"max_patches": 0}, "min_patches 1 to max_patches 0: no such number"),
    ],
)
def test_settings_that_are_not_read(change, message, tmp_path):
    family = Intern(tmp_path)
    for name, value in change.items():
        setattr(family.processor.image_processor, name, value)
    family.processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        crops.from_folder(tmp_path, family.spec, video=False)
