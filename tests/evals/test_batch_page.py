import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.data import made_up
from tests.evals.test_report import Page
from vjax.data.collate import Shape, collate
from vjax.evals import batch_page
from vjax.evals.page import MAX_BYTES

PATCHES = made_up.SPEC.vision.patches


def page(path, batch, checks=None, sources=None):
    """(rows shown, source text) of the page about a batch."""
    shown = batch_page.write_page(
        path,
        [batch],
        title="a batch",
        facts={},
        checks=checks or {},
        decode=lambda ids: made_up.chat().tokenizer.decode(ids, skip_special_tokens=False),
        patches=PATCHES,
        sources=sources or {},
    )
    return shown, path.read_text()


def pictures(text) -> dict[int, np.ndarray]:
    """uint8 [H, W, 3] by slot, as a browser would show them."""
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="picture (\d+)"', text)
    return {
        int(slot): np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        for data, slot in found
    }


@pytest.fixture
def batch():
    """Two examples in a row, two in another, and a row of padding."""
    a, b, c, d = made_up.examples()
    return made_up.batch([[a, b], [c, d]], height=3, length=128)


@pytest.mark.smoke
def test_pictures_are_those_of_their_slots(batch, tmp_path):
    side = np.arange(16)
    for n, image in enumerate(batch["images"]):  # ramps, which JPEG keeps
        image[:] = (16 * n + (side if n % 2 else side[:, None]))[..., None] % 256
    _, text = page(tmp_path / "batch.html", batch)
    found = pictures(text)
    assert sorted(found) == list(range(13))
    for slot, image in found.items():
        error = np.abs(image.astype(int) - batch["images"][slot]).max()
        assert error < 8, f"slot {slot}: off by {error}"


def test_counts_of_rows(batch):
    a, b, c, d = made_up.examples()
    want = [
        (2, len(x.tokens) + len(y.tokens), len(x.images) + len(y.images), (x.answer.sum()
         + y.answer.sum())) for x, y in ((a, b), (c, d))
    ]  # fmt: skip
    assert batch_page.count(batch, PATCHES) == [*want, (0, 0, 0, 0)]


def test_texts_of_users_are_escaped(batch, tmp_path):
    path = tmp_path / "batch.html"
    _, text = page(path, batch, sources={(0, 0, 1): "<script>x</script>.json:3"},
                   checks={"a < b": ["row <b>"]})  # fmt: skip
    parsed = Page(path)
    assert "script" not in parsed.tags and "<script>x</script>.json:3" in parsed.text
    assert "row <b>" in parsed.text and "Padding alone." in parsed.text


def noise(rows, images, side):
    """A batch of as many pictures that do not compress."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (images, side, side, 3)).astype(np.uint8)
    example = made_up.chat().encode(made_up.question("Tell me.", "Yes", images))
    length = len(example.tokens)
    made = collate([[example]] * rows, Shape(rows, length, rows * images, 16, PATCHES),
                   pad_token_id=made_up.PAD)  # fmt: skip
    return made | {"images": np.concatenate([frames] * rows)}


def test_many_large_pictures_are_made_smaller(tmp_path):
    shown, text = page(tmp_path / "batch.html", noise(rows=4, images=25, side=224))
    assert shown == 4 and len(text.encode()) < MAX_BYTES
    sides = {image.shape for image in pictures(text).values()}
    assert len(sides) == 1 and max(sides)[0] in batch_page.SIDES[1:]


def test_rows_for_which_there_is_no_room_are_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(batch_page, "MAX_BYTES", 60_000)
    shown, text = page(tmp_path / "batch.html", noise(rows=8, images=8, side=64))
    assert 0 < shown < 8 and len(text.encode()) < 60_000
    assert f"{8 - shown} more rows are not shown" in text
    assert text.count('<svg class="row"') == 8
