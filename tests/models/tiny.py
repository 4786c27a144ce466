"""Tiny random models, ours and transformers', and inputs for them."""

import dataclasses

import jax
import numpy as np
from flax import nnx

from vjax.families.spec import DecoderSpec, ModelSpec, ProjectorSpec, TowerSpec
from vjax.models.video_llm import VideoLLM

IMAGE, FRAME, END, PAD = 5, 6, 2, 0
SPEC = ModelSpec(
    family="llava",
    vision=TowerSpec(
        width=32, layers=3, heads=4, ffn=48, image_size=16, patch_size=8, select_layer=-2
    ),
    projector=ProjectorSpec(),
    text=DecoderSpec(width=32, layers=2, heads=4, kv_heads=1, head_dim=8, ffn=48, vocab=64),
    image_token_id=IMAGE,
    frame_token_id=FRAME,
    end_token_id=END,
    pad_token_id=PAD,
)


def spec(*, tied=True, kv_heads=1, head_dim=8, select_layer=-2) -> ModelSpec:
    """SPEC with some fields changed."""
    text = dataclasses.replace(SPEC.text, tied=tied, kv_heads=kv_heads, head_dim=head_dim)
    vision = dataclasses.replace(SPEC.vision, select_layer=select_layer)
    return dataclasses.replace(SPEC, text=text, vision=vision)


def model(of: ModelSpec = SPEC, seed: int = 0) -> VideoLLM:
    """Our model; every variable is random, so that no norm or bias is neutral."""
    built = nnx.eval_shape(lambda: VideoLLM(of, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(seed)

    def draw(v):
        centre = 1.0 if v.get_metadata()["axes"][-1] == "norm" else 0.0
        return v.replace(jax.numpy.asarray(centre + 0.1 * rng.standard_normal(v.shape), "float32"))

    state = jax.tree.map(draw, nnx.state(built), is_leaf=lambda x: isinstance(x, nnx.Variable))
    nnx.update(built, state)
    return built


def llava(of: ModelSpec = SPEC, seed: int = 0):
    """transformers' model of the same shape, every parameter random."""
    import torch
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    vision, text = of.vision, of.text
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=vision.width,
            intermediate_size=vision.ffn,
            num_hidden_layers=vision.layers,
            num_attention_heads=vision.heads,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            vocab_size=text.vocab,
            hidden_size=text.width,
            intermediate_size=text.ffn,
            num_hidden_layers=text.layers,
            num_attention_heads=text.heads,
            num_key_value_heads=text.kv_heads,
            head_dim=text.head_dim,
            tie_word_embeddings=text.tied,
            bos_token_id=None,
            eos_token_id=of.end_token_id,
            pad_token_id=of.pad_token_id,
        ),
        image_token_id=of.image_token_id,
        vision_feature_layer=vision.select_layer,
        vision_feature_select_strategy="full",
        image_seq_length=vision.patches,
        tie_word_embeddings=text.tied,
    )
    config.frame_token_id = of.frame_token_id
    built = LlavaForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in built.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            p.copy_(centre + 0.1 * torch.randn(p.shape, generator=generator))
    return built


def inputs(of: ModelSpec = SPEC) -> dict[str, np.ndarray]:
    """Arguments of the reference class: rows of 2, 1 and 0 images, padded right and left."""
    rng = np.random.default_rng(0)
    frame = [FRAME] + [IMAGE] * of.vision.patches

    def text(n):
        return list(rng.integers(7, of.text.vocab, n))

    rows = [text(3) + frame + text(2) + frame + text(2), text(2) + frame + text(3), text(9)]
    length = max(map(len, rows))
    ids = np.full((3, length), PAD)
    mask = np.zeros((3, length), np.int64)
    for i, row in enumerate(rows):
        at = length - len(row) if i == 2 else 0
        ids[i, at : at + len(row)], mask[i, at : at + len(row)] = row, 1
    side = of.vision.image_size
    pixels = rng.integers(0, 256, (3, 3, side, side)).astype(np.float32) / 127.5 - 1
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}


def reference(torch_model, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Logits of transformers' model."""
    import torch

    with torch.no_grad():
        return torch_model(**{k: torch.from_numpy(v) for k, v in arrays.items()}).logits.numpy()


def batch(rows: list[list[int]], length: int, seed: int = 0, of: ModelSpec = SPEC) -> dict:
    """The batch dict of WORKSPACE.md for prompts given as tokens; each run of IMAGE is an image."""
    B, P, side = len(rows), of.vision.patches, of.vision.image_size
    tokens = np.full((B, length), PAD, np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    real = np.arange(length)[None] < np.array([len(row) for row in rows])[:, None]
    slots = (tokens == of.image_token_id) & real
    index = np.where(slots, np.cumsum(slots).reshape(B, length) - 1, -1)
    images = max(1, slots.sum() // P)
    rng = np.random.default_rng(seed)
    return {
        "tokens": tokens,
        "targets": np.roll(tokens, -1, axis=1),
        "loss_weights": np.zeros((B, length), np.float32),
        "positions": np.where(real, np.arange(length), 0).astype(np.int32),
        "segment_ids": real.astype(np.int32),
        "vision_index": index.astype(np.int32),
        "images": rng.integers(0, 256, (images, side, side, 3)).astype(np.uint8),
        "item": np.arange(B, dtype=np.int64),
    }
