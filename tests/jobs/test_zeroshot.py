"""Zero-shot classification beside transformers: the same images, texts and logits."""

import json
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.normalizers import Lowercase

pytest.importorskip("torch")  # which tests that others are imported from need
from tests.interop.test_dual import FAMILIES, TEXT, made  # noqa: E402
from vjax import main  # noqa: E402
from vjax.families import read_spec  # noqa: E402
from vjax.prompts.dual import DualPixels  # noqa: E402

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
Image = pytest.importorskip("PIL.Image")

WORDS = ("<pad>", "a", "photo", "of", ".", "cat", "blue", "cup", "the")
SIZES = [(40, 60), (33, 30), (30, 90), (64, 64), (51, 37)]


def processor(family):
    if family == "siglip2":
        return transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    if family == "siglip":
        return transformers.SiglipImageProcessor(size={"height": 30, "width": 30})
    middle = dict(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30})
    return transformers.CLIPImageProcessor(**middle)


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request, tmp_path_factory):
    """(folder, transformers' model, its image processor, its tokenizer)."""
    folder = tmp_path_factory.mktemp(request.param)
    words = {word: n for n, word in enumerate(WORDS)} | {"<end>": TEXT["eos_token_id"]}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="the"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", TEXT["eos_token_id"])]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", padding_side="right"
    )
    model, images = made(request.param), processor(request.param)
    for part in (model, images, fast):
        part.save_pretrained(folder)
    return folder, model, images, fast


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two folders, one of each class."""
    data = pytest.importorskip("skimage.data")
    root = tmp_path_factory.mktemp("photos")
    for n, (h, w) in enumerate(SIZES):
        of, at = (("cat", data.chelsea()), ("blue_cup", data.coffee()))[n % 2]
        (root / of).mkdir(exist_ok=True)
        Image.fromarray(at[20 * n : 20 * n + h, 30 * n : 30 * n + w]).save(root / of / f"{n}.png")
    return root


def call(folder, images, workdir, *flags):
    """The program, in this process; the lines that it wrote."""
    flags = (
        "--config=experiments/zeroshot.py", "--job=zeroshot", f"--config.model.path={folder}",
        f"--config.zeroshot.images={images}", f"--workdir={workdir}",
        "--config.zeroshot.batch_size=4", *flags,
    )  # fmt: skip
    main._plainly(main.main)(main.parse(["vjax", *flags]))
    return [json.loads(line) for line in (workdir / "zeroshot.jsonl").read_text().splitlines()]


def test_logits_are_those_of_transformers(checkpoint, photos, tmp_path):
    folder, model, images, tokenizer = checkpoint
    got = call(folder, photos, tmp_path / "run")
    texts = ["a photo of a blue cup.", "a photo of a cat."]
    given = dict(tokenizer(texts, padding="max_length", max_length=12, return_tensors="pt"))
    files = sorted(photos.rglob("*.png"))
    pixels = [Image.open(file) for file in files]
    with torch.no_grad():
        shown = [images(image, return_tensors="pt") for image in pixels]
        want = [
            model(input_ids=given["input_ids"], **one).logits_per_image[0].numpy() for one in shown
        ]
    assert [line["image"] for line in got] == [str(f.relative_to(photos)) for f in files]
    # a step of 255 of a pixel is what resizing may differ by
    np.testing.assert_allclose([line["logits"] for line in got], want, atol=2e-2)
    assert [line["truth"] for line in got] == ["blue cup"] * 2 + ["cat"] * 3
    names = ("blue cup", "cat")
    assert [line["class"] for line in got] == [names[row.argmax()] for row in want]
    results = json.loads((tmp_path / "run" / "zeroshot.json").read_text())
    right = np.mean([line["class"] == line["truth"] for line in got])
    assert (results["images"], results["labelled"], results["right"]) == (5, 5, right)


def test_pixels_are_those_of_transformers(checkpoint, photos):
    folder, _, images, _ = checkpoint
    rule = DualPixels.from_folder(folder, read_spec(folder))
    shown = [np.asarray(Image.open(file)) for file in sorted(photos.rglob("*.png"))]
    got = rule(shown)
    for n, image in enumerate(shown):
        want = images(Image.fromarray(image), return_tensors="np")
        if "spatial_shapes" in want:
            h, w = want["spatial_shapes"][0]
            assert (got["hw"][n].max(0) + 1).tolist() == [h, w]
            np.testing.assert_array_equal(got["real"][n], want["pixel_attention_mask"][0])
            mine, theirs = got["patches"][n], want["pixel_values"][0]
        else:
            mine, theirs = got["images"][n].transpose(2, 0, 1), want["pixel_values"][0]
        assert np.abs(mine - theirs).max() * 255 * max(rule.std) <= 2.1


@pytest.mark.parametrize("checkpoint", ["clip"], indirect=True)
def test_images_without_classes(checkpoint, photos, tmp_path):
    folder, *_ = checkpoint
    names = ("--config.zeroshot.classes=('cat','blue cup')", "--config.zeroshot.most=2")
    got = call(folder, photos / "cat", tmp_path / "run", *names)
    assert [line["truth"] for line in got] == [None, None]
    assert "right" not in json.loads((tmp_path / "run" / "zeroshot.json").read_text())


@pytest.mark.parametrize("checkpoint", ["clip"], indirect=True)
@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--config.model.path=nowhere", "hf download google/siglip2-base-patch16-224"),
        ("--config.zeroshot.images=nowhere", "there is no folder nowhere"),
        ("--config.zeroshot.templates=('a photo',)", "'a photo' has no {}"),
        ("--config.zeroshot.classes=('cat',)", "1 names for 2 folders"),
        ("--config.zeroshot.classes=cat,dog", "1 names for 2 folders"),
    ],
)
def test_what_is_wrong_is_said(flag, said, checkpoint, photos, tmp_path, capsys):
    folder, *_ = checkpoint
    with pytest.raises(SystemExit):
        call(folder, photos, tmp_path / "run", flag)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("checkpoint", ["clip"], indirect=True)
def test_one_class_is_none(checkpoint, photos, tmp_path, capsys):
    folder, *_ = checkpoint
    with pytest.raises(SystemExit):
        call(folder, photos / "cat", tmp_path / "run", "--config.zeroshot.classes=cat,dog")
    assert "['cat,dog'] is one class" in capsys.readouterr().err


@pytest.mark.parametrize("checkpoint", ["clip"], indirect=True)
def test_an_image_that_is_cut_short(checkpoint, photos, tmp_path, capsys):
    folder, *_ = checkpoint
    images = shutil.copytree(photos, tmp_path / "photos")
    bad = sorted(images.rglob("*.png"))[1]
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(SystemExit):
        call(folder, images, tmp_path / "run")
    said = capsys.readouterr().err
    assert f"{bad}: no whole image" in said and "on_bad_clip=skip" in said
    got = call(folder, images, tmp_path / "run", "--config.data.on_bad_clip=skip")
    assert f"left out: {bad}" in capsys.readouterr().out
    names = [str(file.relative_to(images)) for file in sorted(images.rglob("*.png"))]
    assert [line["image"] for line in got] == [name for name in names if name not in str(bad)]
