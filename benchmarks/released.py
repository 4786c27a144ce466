"""Released sizes as their config.json says them; for tests and benchmarks, no weights."""

from vjax.families import videollama2

QWEN_VISION = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
    "num_hidden_layers": 26, "num_attention_heads": 16, "image_size": 384, "patch_size": 14,
    "vision_use_head": False,
}  # fmt: skip


def text(width, layers, heads, kv, ffn, vocab, **more):
    return {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv, "intermediate_size": ffn, "vocab_size": vocab,
        "eos_token_id": 2, "pad_token_id": 0, **more,
    }  # fmt: skip


def qwen2_vl(tied, *sizes):
    mrope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    return {
        "model_type": "qwen2_vl", "tie_word_embeddings": tied,
        "text_config": text(*sizes, rope_parameters=mrope),
        "vision_config": QWEN_VISION | {"hidden_size": sizes[0]},
        "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652,
    }  # fmt: skip


def qwen2_5_vl(tied, ffn, *sizes):
    """`ffn`: of the tower."""
    config = qwen2_vl(tied, *sizes)
    vision = {"depth": 32, "num_heads": 16, "hidden_size": 1280, "intermediate_size": ffn}
    return config | {
        "model_type": "qwen2_5_vl",
        "vision_config": vision | {"out_hidden_size": sizes[0], "tokens_per_second": 2},
    }


def qwen3_vl(tied, *sizes, large=True):
    mrope = {"rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304}
    if not large:
        vision = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096}
    return {
        "model_type": "qwen3_vl", "tie_word_embeddings": tied,
        "text_config": text(
            *sizes, head_dim=128, rope_parameters=mrope | {"rope_type": "default"}
        ),
        "vision_config": vision | {
            "num_heads": 16, "out_hidden_size": sizes[0],
            "deepstack_visual_indexes": [8, 16, 24] if large else [5, 11, 17],
        },
        "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652,
    }  # fmt: skip


def llava_onevision(tied, *sizes):
    return {
        "model_type": "llava_onevision", "tie_word_embeddings": tied,
        "text_config": text(*sizes, model_type="qwen2"), "vision_config": SIGLIP,
        "image_token_index": 151646, "video_token_index": 151647,
        "image_grid_pinpoints": [[384, 384], [384, 768]],
    }  # fmt: skip


def smolvlm(vision, shuffle, *sizes, **more):
    width, layers, heads, ffn, side, patch = vision
    return {
        "model_type": "smolvlm", "image_token_id": 49190, "scale_factor": shuffle,
        "vision_config": {
            "model_type": "smolvlm_vision", "hidden_size": width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "intermediate_size": ffn, "image_size": side,
            "patch_size": patch,
        },
        "text_config": text(*sizes, model_type="llama", **more),
    }  # fmt: skip


VIT_300M = {"attention_bias": True}
VIT_6B = {
    "hidden_size": 3200, "num_hidden_layers": 45, "num_attention_heads": 25,
    "intermediate_size": 12800, "use_qk_norm": True, "norm_type": "rms_norm",
}  # fmt: skip


def internvl(vision, *sizes):
    return {
        "model_type": "internvl", "tie_word_embeddings": False, "vision_config": vision,
        "text_config": text(*sizes, model_type="qwen2"),
    }  # fmt: skip


SIGLIP_BASE, SIGLIP_SO400M = (768, 12, 12, 3072, 512, 16), (1152, 27, 16, 4304, 384, 14)


def video_llama_3(tied, *sizes):
    few = ("model_type", "image_size", "vision_use_head")
    vision = {k: v for k, v in SIGLIP.items() if k not in few} | {"num_hidden_layers": 27}
    return {
        "model_type": "video_llama_3", "tie_word_embeddings": tied, "vision_config": vision,
        "text_config": text(*sizes, model_type="qwen2"),
    }  # fmt: skip


CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
    "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
}  # fmt: skip


def llava_next_video(kind, *sizes):
    return {
        "model_type": "llava_next_video", "text_config": text(*sizes, model_type=kind),
        "vision_config": CLIP, "image_token_index": 32001, "video_token_index": 32000,
    }  # fmt: skip


def tower(width, layers, heads, ffn, patch=None, **more):
    sizes = {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": ffn, **more,
    }  # fmt: skip
    return sizes | ({"patch_size": patch} if patch else {})


def dual(kind, more=None, vision=None, text=None):
    """Sizes that are not given are those of the class."""
    return {
        "model_type": kind, "vision_config": vision or {}, "text_config": text or {},
        **(more or {}),
    }  # fmt: skip


def videollama2_(kind, connector, tower, *sizes):
    """`kind`: of the decoder."""
    vision = videollama2.TOWERS[tower]
    if kind == "qwen2" and "siglip" in tower:
        vision = vision | {"vision_use_head": False}
    return text(
        *sizes, model_type=f"videollama2_{kind}", tie_word_embeddings=False, vision_config=vision,
        mm_projector_type=connector, mm_vision_tower=tower, mm_hidden_size=vision["hidden_size"],
        mm_vision_select_layer=-2, mm_vision_select_feature="patch", video_token_id=0,
    )  # fmt: skip


def plain(kind, tied, *sizes, **more):
    return text(*sizes, model_type=kind, tie_word_embeddings=tied, **more)


RELEASED = {
    "Qwen2-VL-2B": qwen2_vl(True, 1536, 28, 12, 2, 8960, 151936),
    "Qwen2-VL-7B": qwen2_vl(False, 3584, 28, 28, 4, 18944, 152064),
    "Qwen2-VL-72B": qwen2_vl(False, 8192, 80, 64, 8, 29568, 152064),
    "Qwen2.5-VL-3B": qwen2_5_vl(True, 3420, 2048, 36, 16, 2, 11008, 151936),
    "Qwen2.5-VL-7B": qwen2_5_vl(False, 3420, 3584, 28, 28, 4, 18944, 152064),
    "Qwen2.5-VL-32B": qwen2_5_vl(False, 3456, 5120, 64, 40, 8, 27648, 152064),
    "Qwen2.5-VL-72B": qwen2_5_vl(False, 3456, 8192, 80, 64, 8, 29568, 152064),
    "VideoLLaMA3-2B": video_llama_3(True, 1536, 28, 12, 2, 8960, 151936),
    "VideoLLaMA3-7B": video_llama_3(False, 3584, 28, 28, 4, 18944, 152064),
    "Qwen3-VL-2B": qwen3_vl(True, 2048, 28, 16, 8, 6144, 151936, large=False),
    "Qwen3-VL-4B": qwen3_vl(True, 2560, 36, 32, 8, 9728, 151936, large=False),
    "Qwen3-VL-8B": qwen3_vl(False, 4096, 36, 32, 8, 12288, 151936),
    "Qwen3-VL-32B": qwen3_vl(False, 5120, 64, 64, 8, 25600, 151936),
    "LLaVA-OneVision-0.5B": llava_onevision(True, 896, 24, 14, 2, 4864, 152000),
    "LLaVA-OneVision-7B": llava_onevision(False, 3584, 28, 28, 4, 18944, 152000),
    "LLaVA-OneVision-72B": llava_onevision(False, 8192, 80, 64, 8, 29568, 152000),
    "SmolVLM2-256M": smolvlm(SIGLIP_BASE, 4, 576, 30, 9, 3, 1536, 49280),
    "SmolVLM2-500M": smolvlm(SIGLIP_BASE, 4, 960, 32, 15, 5, 2560, 49280),
    "SmolVLM2-2.2B": smolvlm(SIGLIP_SO400M, 3, 2048, 24, 32, 32, 8192, 49280),
    "LLaVA-NeXT-Video-7B": llava_next_video("llama", 4096, 32, 32, 32, 11008, 32064),
    "LLaVA-NeXT-Video-7B-32K": llava_next_video("mistral", 4096, 32, 32, 8, 14336, 32064),
    "LLaVA-NeXT-Video-34B": llava_next_video("llama", 7168, 60, 56, 8, 20480, 64064),
    "InternVL3-1B": internvl(VIT_300M, 896, 24, 14, 2, 4864, 151674),
    "InternVL3-2B": internvl(VIT_300M, 1536, 28, 12, 2, 8960, 151674),
    "InternVL3-8B": internvl(VIT_300M, 3584, 28, 28, 4, 18944, 151674),
    "InternVL3-14B": internvl(VIT_300M, 5120, 48, 40, 8, 13824, 151674),
    "InternVL3-38B": internvl(VIT_6B, 5120, 64, 40, 8, 27648, 151674),
    "InternVL3-78B": internvl(VIT_6B, 8192, 80, 64, 8, 29568, 151674),
    "Video-LLaVA-7B": {
        "model_type": "video_llava",
        "vision_config": CLIP | {"image_size": 224},
        "text_config": text(4096, 32, 32, 32, 11008, 32064, model_type="llama"),
    },
    "CLIP-ViT-B/32": dual("clip", {"projection_dim": 512}),
    "CLIP-ViT-L/14": dual(
        "clip",
        {"projection_dim": 768},
        vision=tower(1024, 24, 16, 4096, 14),
        text=tower(768, 12, 12, 3072),
    ),
    "SigLIP-B/16": dual("siglip"),
    "SigLIP-So400m/14-384": dual(
        "siglip",
        vision=tower(1152, 27, 16, 4304, 14, image_size=384),
        text=tower(1152, 27, 16, 4304),
    ),
    "SigLIP2-B/16": dual("siglip", text={"vocab_size": 256000}),
    "SigLIP2-B/16-NaFlex": dual("siglip2", text={"vocab_size": 256000}),
    "VideoLLaMA2-7B": videollama2_(
        "mistral",
        "stc_connector",
        "openai/clip-vit-large-patch14-336",
        4096,
        32,
        32,
        8,
        14336,
        32000,
    ),
    "VideoLLaMA2-72B": videollama2_(
        "qwen2",
        "stc_connector",
        "openai/clip-vit-large-patch14-336",
        8192,
        80,
        64,
        8,
        29568,
        152064,
    ),
    "VideoLLaMA2.1-7B": videollama2_(
        "qwen2",
        "stc_connector_v35",
        "google/siglip-so400m-patch14-384",
        3584,
        28,
        28,
        4,
        18944,
        152064,
    ),
    "SmolLM2-135M": plain("llama", True, 576, 30, 9, 3, 1536, 49152),
    "Llama-3.2-1B": plain("llama", True, 2048, 16, 32, 8, 8192, 128256, head_dim=64),
    "Mistral-7B": plain("mistral", False, 4096, 32, 32, 8, 14336, 32000),
    "Qwen3-0.6B": plain("qwen3", True, 1024, 28, 16, 8, 3072, 151936, head_dim=128),
}
