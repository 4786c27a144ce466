"""The whole job on real families' layouts: tiny folders as transformers writes them."""

import dataclasses
import json

import numpy as np
import pytest
from flax import nnx

pytest.importorskip("torch")  # which tests that others are imported from need
import vjax  # noqa: E402
from tests.data import mixed  # noqa: E402
from tests.interop.theirs import agree, logits  # noqa: E402
from tests.jobs.test_rows import flags_of  # noqa: E402
from tests.prompts.test_reference_chat import (  # noqa: E402
    Intern,
    Llama2,
    Llama3,
    NextVideo,
    OneVision,
    Qwen,
    Qwen3,
    Qwen25,
    Smol,
    VideoLlava,
)
from vjax import main  # noqa: E402
from vjax.config import freeze  # noqa: E402
from vjax.evals.summary import read_results  # noqa: E402
from vjax.generate.ask import logits as logits_of  # noqa: E402
from vjax.interop import load_weights  # noqa: E402
from vjax.interop.variables import by_path  # noqa: E402
from vjax.jobs import _model  # noqa: E402
from vjax.prompts import Prompt  # noqa: E402
from vjax.prompts.pixels import Picture, normalised  # noqa: E402
from vjax.prompts.processors.grids import GridPixels  # noqa: E402
from vjax.prompts.processors.tiles import TilePixels  # noqa: E402
from vjax.train.metrics import read_metrics  # noqa: E402

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SMALL = (
    "--config.model.dtype=float32",
    "--config.data.source=procedural",
    "--config.data.procedural_clips=6",
    "--config.data.procedural_eval_clips=3",
    "--config.data.procedural_share=1.0",
    "--config.data.store_size=56",
    "--config.model.image_size=56",
    "--config.data.workers=0",
    "--config.fragments.mcq_share=1.0",
    "--config.eval.mcq_share=1.0",
    "--config.train.steps=20",
    "--config.train.batch_size=2",
    "--config.eval.items_procedural=2",
    "--config.eval.items_scene=2",
    "--config.eval.batch_size=2",
    "--config.eval.bootstrap=20",
    "--config.optim.lr=0.002",  # with more, rounding in float32 grows with what was learnt
)
PRESETS = {
    "qwen2_vl_2b": Qwen,
    "qwen2_5_vl_3b": Qwen25,
    "qwen3_vl_2b": Qwen3,
    "videollama3_2b": Llama3,
    "llava_onevision_7b": OneVision,
    "smolvlm2_256m": Smol,
    "internvl3_1b": Intern,
    "llava_next_video_7b": NextVideo,
    "video_llava_7b": VideoLlava,
    "videollama2_7b": Llama2,
}


@pytest.fixture(scope="module", params=PRESETS)
def released(request, tmp_path_factory):
    """(preset, folder in the released layout, the reference model in it)."""
    folder = tmp_path_factory.mktemp(request.param)
    family = PRESETS[request.param](folder)
    torch.manual_seed(0)
    model = family.reference().eval()
    model.save_pretrained(folder)
    return request.param, folder, model


@pytest.fixture(scope="module")
def tuned(released, home, tmp_path_factory):
    preset, folder, _ = released
    workdir = tmp_path_factory.mktemp("run") / preset
    call(f"--config=experiments/sf2t.py:{preset}", f"--config.model.path={folder}",
         f"--workdir={workdir}", *SMALL)  # fmt: skip
    return workdir


def call(*flags):
    """The program, in this process."""
    main._plainly(main.main)(main.parse(["vjax", *flags]))


def test_the_job_runs_on_a_released_layout(tuned):
    rows = read_metrics(tuned / "metrics.jsonl")
    assert len(rows) == 20 and np.isfinite([row["loss"] for row in rows]).all()
    results = read_results(tuned / "results.json")
    assert set(results["after"]) == {"fragments/procedural", "scene/procedural"}


@pytest.mark.slow
def test_needles_are_hidden_from_it(released, home, tmp_path):
    preset, folder, _ = released
    call(f"--config=experiments/needle.py:{preset}", f"--config.model.path={folder}",
         f"--workdir={tmp_path}", "--job=needle", "--config.needle.lengths=(2,7)",
         "--config.needle.depths=(0.5,)", "--config.needle.fps=3.0", *SMALL[:8])  # fmt: skip
    got = json.loads((tmp_path / "needle" / "needle.json").read_text())
    assert [cell["n"] for cell in got["cells"]] == [14, 14]
    assert got["tokens"][0] < got["tokens"][1] or preset == "video_llava_7b"
    assert np.isfinite([one["scores"] for one in got["answers"]]).all()


@pytest.mark.slow
def test_rows_of_texts_images_and_videos(released, home, tmp_path):
    preset, folder, _ = released
    mixed.write_files(tmp_path)
    mixed.write_rows(tmp_path, mixed.rows(24))
    rows = flags_of(tmp_path, "--config.data.row_tokens=1024", "--config.eval.items_rows=2")
    few = ("--config.train.steps=3", "--config.sampling.frames=5")
    workdir = tmp_path / "run"
    call(f"--config=experiments/sf2t.py:{preset}", f"--config.model.path={folder}",
         f"--workdir={workdir}", *SMALL, *rows, *few)  # fmt: skip
    assert np.isfinite([row["loss"] for row in read_metrics(workdir / "metrics.jsonl")]).all()
    assert not (workdir / "left_out.jsonl").exists()


@pytest.mark.slow
def test_rows_of_text_alone(released, home, tmp_path):
    preset, folder, _ = released
    mixed.write_rows(tmp_path, mixed.rows(140)[6::7])
    rows = flags_of(tmp_path, "--config.data.row_tokens=1024", "--config.eval.items_rows=2")
    call(f"--config=experiments/sf2t.py:{preset}", f"--config.model.path={folder}",
         f"--workdir={tmp_path / 'run'}", *SMALL, *rows, "--config.train.steps=2")  # fmt: skip
    loss = [row["loss"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert len(loss) == 2 and np.isfinite(loss).all()


@pytest.fixture(scope="module")
def exported(tuned):
    call(f"--workdir={tuned}", "--job=export", "--export.format=peft,hf,orbax")
    return tuned


@pytest.fixture(scope="module")
def asked(tuned):
    """A question as jobs show it, for both sides: our batch and the reference's arguments."""
    saved = json.loads((tuned / "config.json").read_text())
    loaded = _model.load(freeze(saved))
    model = nnx.merge(
        loaded.graphdef, _model.restore(freeze(saved), tuned, loaded).trainable, loaded.frozen
    )
    rng = np.random.default_rng(0)
    frames = tuple(rng.integers(0, 256, (56, 56, 3)).astype(np.uint8) for _ in range(3))
    parts = (("frame", 0), ("frame", 1), ("text", "Here?"), ("image", 2))
    prompt = Prompt(parts, frames, "Yes")
    return loaded, prompt, frames, logits_of(model, prompt, loaded.chat, image_size=56)


def reference(model, asked):
    """Logits of the reference class for the same tokens and pixels, the processor's own way."""
    loaded, prompt, frames, _ = asked
    spec, ids = loaded.spec, loaded.chat.encode(prompt).tokens[None].astype(np.int64)
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if spec.pictures == "middles":
        x = normalised(np.stack(frames), spec.vision.mean, spec.vision.std).transpose(0, 3, 1, 2)
        arrays["pixel_values_videos"] = x[None, [0] * 4 + [1] * 4]
        arrays["pixel_values"] = x[2:]
    elif spec.pictures == "clips":  # each frame is a video of two equal ones
        x = normalised(np.stack(frames), spec.vision.mean, spec.vision.std).transpose(0, 3, 1, 2)
        arrays["pixel_values_videos"] = np.stack([x, x], axis=1)
    elif spec.pictures == "split":
        x = normalised(np.stack(frames), spec.vision.mean, spec.vision.std)
        arrays["pixel_values"] = x.transpose(0, 3, 1, 2)[None]
    elif spec.pictures == "crops":
        x = normalised(np.stack(frames), spec.vision.mean, spec.vision.std)
        arrays["pixel_values"] = x.transpose(0, 3, 1, 2)
    elif spec.pictures != "tiles":
        rule = GridPixels(
            14, spec.vision.temporal_patch, 2, 4 * 28 * 28, 4 * 28 * 28, spec.vision.mean,
            spec.vision.std,
        )  # fmt: skip
        shown = {"video": frames, "image": ()}
        if spec.pictures.endswith("grids"):  # a query is an image there
            shown = {"video": frames[:2], "image": frames[2:]}
            types = np.where(ids == spec.image_token_id, 1, 0)
            arrays["mm_token_type_ids"] = np.where(ids == spec.video_token_id, 2, types)
        for kind, of in shown.items():
            one = dataclasses.replace(rule, video=kind == "video")
            if of:
                arrays |= one.arguments([Picture(kind, (frame,)) for frame in of])
        if spec.pictures == "pruned":
            arrays["video_merge_sizes"] = np.full(3, 2)
    else:
        rule = TilePixels(56, spec.tiles, spec.vision.mean, spec.vision.std)
        arrays["pixel_values_videos"] = np.stack(
            [rule.frames([frame]).transpose(0, 3, 1, 2) for frame in frames]
        )
    with torch.no_grad():
        return logits(model, arrays)[0].numpy()


def test_frames_as_jobs_show_them_are_what_the_reference_class_sees(released, asked):
    """The base model: our adapters have no say in it."""
    _, folder, theirs = released
    loaded, prompt, *_ = asked
    ours = logits_of(load_weights(folder, loaded.spec), prompt, loaded.chat, image_size=56)
    np.testing.assert_allclose(ours, reference(theirs, asked), atol=1e-5)


def test_a_trained_adapter_computes_in_peft_what_it_does_here(released, exported, asked):
    peft = pytest.importorskip("peft")
    _, folder, theirs = released
    model = type(theirs).from_pretrained(folder)
    model = peft.PeftModel.from_pretrained(model, exported / "adapter").eval()
    got = reference(model, asked)
    agree(asked[3], got, 1e-5, of=asked[0].spec.family, what="adapter")
    assert np.abs(got - reference(theirs, asked)).max() > 1e-2  # it has learnt something


def test_the_merged_folder_opens_in_transformers(released, exported, asked):
    theirs = type(released[2]).from_pretrained(exported / "model").eval()
    agree(asked[3], reference(theirs, asked), 1e-5, of=asked[0].spec.family, what="merged")


def test_the_merged_folder_has_the_processor_that_it_came_with(released, exported):
    classes = PRESETS[released[0]].classes
    if not classes:
        pytest.skip("transformers has no processor of it")
    processor = transformers.AutoProcessor.from_pretrained(exported / "model")
    assert type(processor).__name__.startswith(classes)
    assert (
        processor.tokenizer("Yes").input_ids
        == transformers.AutoProcessor.from_pretrained(released[1]).tokenizer("Yes").input_ids
    )


def test_exported_folders_are_prompted_as_they_were_trained(tuned, exported, asked):
    """The rule of positions is saved, and what opens the folder takes it."""
    opened, chat = vjax.load(exported / "model"), asked[0].chat
    saved = json.loads((exported / "model" / "video_spec.json").read_text())["position_rule"]
    assert saved == ("qwen" if opened.spec.text.mrope else "plain")
    assert opened.chat.position_rule == chat.position_rule == saved


def test_the_orbax_folder_opens_here(exported, asked):
    ours = load_weights(exported / "orbax", asked[0].spec)
    merged = load_weights(exported / "model", asked[0].spec)
    a, b = by_path(ours), by_path(merged)
    for path, variable in a.items():
        np.testing.assert_array_equal(variable[...], b[path][...], err_msg=path)


def test_a_preset_without_its_folder_says_what_is_expected_and_how_to_get_it(tmp_path, capsys):
    with pytest.raises(SystemExit):
        call("--config=experiments/sf2t.py:qwen2_vl_7b", f"--workdir={tmp_path}",
             f"--config.model.path={tmp_path / 'Qwen2-VL-7B-Instruct'}")  # fmt: skip
    said = capsys.readouterr().err
    for part in ("there is no folder", "model.safetensors.index.json", "tokenizer.json",
                 "hf download Qwen/Qwen2-VL-7B-Instruct --local-dir"):  # fmt: skip
        assert part in said, said
