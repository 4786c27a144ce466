"""Decoders: what Llama, Mistral, Qwen2 and Qwen3 have in common, and where they differ.

Other families read their `text_config` and name their language weights through this file.
"""

import dataclasses
import re
import types
from collections.abc import Mapping

import numpy as np

from vjax.families.fields import check_known
from vjax.families.spec import NO_TOKEN, DecoderSpec, ModelSpec, RopeScaling


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a model_type has; None where its config.json says.

    Attributes:
      qkv_bias, o_bias: biases of the attention's linear layers (`attention_bias`).
      mlp_bias: of the feed-forward's.
      qk_norm: an RMSNorm of queries and keys.
      window: whether `sliding_window` counts: always, never, or where `use_sliding_window` is true.
    """

    qkv_bias: bool | None
    o_bias: bool | None
    mlp_bias: bool | None = False
    qk_norm: bool = False
    window: bool | None = None


KINDS: Mapping[str, Kind] = types.MappingProxyType(
    {
        "llama": Kind(qkv_bias=None, o_bias=None, mlp_bias=None, window=False),
        "mistral": Kind(qkv_bias=False, o_bias=False, window=True),
        "qwen2": Kind(qkv_bias=True, o_bias=False),
        "qwen3": Kind(qkv_bias=None, o_bias=None, qk_norm=True),
    }
)
FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "vocab_size", "hidden_act", "rms_norm_eps", "rope_theta", "rope_scaling",
    "rope_parameters", "attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window",
    "sliding_window", "max_window_layers", "layer_types",
)  # fmt: skip
SCALINGS = {
    "linear": ("factor",),
    "dynamic": ("factor", "original_length"),
    "llama3": ("factor", "low", "high", "original_length"),
    "position_interpolation": ("factor",),
    "theta_scale": ("factor", "alpha"),
}
SCALING_KEYS = {
    "alpha": "alpha",
    "factor": "factor",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
    "original_length": "original_max_position_embeddings",
}


# what transformers' classes take where a text_config says nothing, as some releases' do
ABSENT: Mapping[str, Mapping] = types.MappingProxyType(
    {
        "llama": dict(
            vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
            num_attention_heads=32, eos_token_id=2,
        ),
        "mistral": dict(
            vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
            num_attention_heads=32, num_key_value_heads=8, sliding_window=4096, eos_token_id=2,
        ),
    }
)  # fmt: skip


def filled(config: Mapping) -> dict:
    """A decoder's config with the sizes that it leaves to its class."""
    return dict(ABSENT.get(config.get("model_type"), {})) | dict(config)


def decoder_spec(config: Mapping, *, tied: bool | None = None, where: str = "") -> DecoderSpec:
    """Reads the config of a decoder.

    Args:
      config: a config.json of its own, or the `text_config` of another.
      tied: whether the head is the embedding, where the config around this one says.
      where: what to call the config's keys in errors: "text_config." or "".

    Raises:
      KeyError: a size that is missing.
      ValueError: a setting that is not read, with its name.
    """
    name = config.get("model_type")
    if name not in KINDS:
        raise ValueError(
            f"config.json: {where}model_type is {name!r}; decoders that are read: "
            f"{', '.join(KINDS)}"
        )
    kind = KINDS[name]
    check_known(config, FIELDS, where)
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"config.json: {where}hidden_act is {config['hidden_act']!r}, not 'silu'")
    bias = bool(config.get("attention_bias", False))
    heads = config["num_attention_heads"]
    theta, scaling, mrope, interleaved = _rope(config, where)
    if tied is None:
        tied = bool(config.get("tie_word_embeddings", False))
    return DecoderSpec(
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        ffn=config["intermediate_size"],
        vocab=config["vocab_size"],
        rope_theta=theta,
        norm_eps=config.get("rms_norm_eps", 1e-6),
        qkv_bias=bias if kind.qkv_bias is None else kind.qkv_bias,
        tied=tied,
        model_type=name,
        o_bias=bias if kind.o_bias is None else kind.o_bias,
        mlp_bias=bool(config.get("mlp_bias", False)) if kind.mlp_bias is None else kind.mlp_bias,
        qk_norm=kind.qk_norm,
        window=_window(config, kind, where),
        rope_scaling=scaling,
        mrope=mrope,
        interleaved=interleaved,
    )


def end_and_pad(config: Mapping) -> tuple[int, int]:
    """Ids of the end of turn (the first of several, NO_TOKEN without one) and of padding.

    Where nothing is said of padding, it is the end of turn, or 0.
    """
    end, pad = config.get("eos_token_id"), config.get("pad_token_id")
    end = end[0] if isinstance(end, list) else end
    if pad is None:
        pad = end or 0
    return NO_TOKEN if end is None else end, pad


def _window(config: Mapping, kind: Kind, where: str) -> int:
    on = kind.window
    if on is None:
        on = config.get("use_sliding_window", False)
        if on and config.get("max_window_layers", config["num_hidden_layers"]) > 0:
            raise ValueError(
                f"config.json: {where}use_sliding_window with {where}max_window_layers above 0: "
                "layers of both kinds in one decoder are not read"
            )
    kinds = sorted(set(config.get("layer_types") or ()))
    if len(kinds) > 1:
        raise ValueError(
            f"config.json: {where}layer_types are {' and '.join(kinds)}: layers of several "
            "kinds in one decoder are not read"
        )
    return (config.get("sliding_window") or 0) if on else 0


def _rope(config: Mapping, where: str) -> tuple[float, RopeScaling | None, tuple[int, ...], bool]:
    """(theta, scaling, M-RoPE sections, whether these take turns).

    From `rope_parameters` or the older keys.
    """
    old = config.get("rope_scaling") or {}
    rope = {"rope_theta": config.get("rope_theta", 10_000.0)} | old
    rope |= config.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "mrope", *SCALINGS):
        raise ValueError(
            f"config.json: {where}rope_parameters.rope_type is {kind!r}; what is read: default, "
            f"mrope, {', '.join(SCALINGS)}"
        )
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(f"config.json: {where}rope_parameters.partial_rotary_factor is not read")
    scaling = None
    if kind in SCALINGS:
        rope = {"alpha": 1.0} | rope
        if kind == "dynamic":
            rope[SCALING_KEYS["original_length"]] = config["max_position_embeddings"]
        scaling = RopeScaling(kind, **{name: rope[SCALING_KEYS[name]] for name in SCALINGS[kind]})
    sections, interleaved = rope.get("mrope_section", ()), rope.get("mrope_interleaved", False)
    return float(rope["rope_theta"]), scaling, tuple(sections), bool(interleaved)


def plain_rope(spec: DecoderSpec) -> DecoderSpec:
    """The same rotary positions in names that transformers knows."""
    scaling = spec.rope_scaling
    kind = scaling and scaling.kind
    if kind == "theta_scale":
        theta = spec.rope_theta * scaling.factor**scaling.alpha
        return dataclasses.replace(spec, rope_theta=theta, rope_scaling=None)
    if kind == "position_interpolation":
        return dataclasses.replace(spec, rope_scaling=RopeScaling("linear", scaling.factor))
    return spec


def decoder_config(spec: DecoderSpec) -> dict:
    """The config that `decoder_spec` reads back and transformers opens.

    Of `theta_scale` and `position_interpolation` it holds what they come to.
    """
    spec, longest = plain_rope(spec), {}
    rope: dict = {"rope_type": "default", "rope_theta": spec.rope_theta}
    if spec.mrope:
        rope |= {"mrope_section": list(spec.mrope)}
    if spec.interleaved:
        rope |= {"mrope_interleaved": True}
    if spec.rope_scaling is not None:
        values = {
            SCALING_KEYS[name]: getattr(spec.rope_scaling, name)
            for name in SCALINGS[spec.rope_scaling.kind]
        }
        rope |= {"rope_type": spec.rope_scaling.kind} | values
    if spec.rope_scaling is not None and spec.rope_scaling.kind == "dynamic":
        longest = {"max_position_embeddings": rope.pop(SCALING_KEYS["original_length"])}
    config = {
        "model_type": spec.model_type,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "intermediate_size": spec.ffn,
        "vocab_size": spec.vocab,
        "hidden_act": "silu",
        "rope_parameters": rope,
        "rms_norm_eps": spec.norm_eps,
        "tie_word_embeddings": spec.tied,
    }
    config |= longest
    kind = KINDS[spec.model_type]
    for name, value, fixed in (
        ("qkv_bias", spec.qkv_bias, kind.qkv_bias),
        ("o_bias", spec.o_bias, kind.o_bias),
        ("mlp_bias", spec.mlp_bias, kind.mlp_bias),
    ):
        if fixed is not None and value != fixed:
            raise ValueError(f"{spec.model_type}: {name} is {fixed} in this architecture")
    if kind.qkv_bias is None:
        config["attention_bias"] = spec.qkv_bias
    if kind.mlp_bias is None:
        config["mlp_bias"] = spec.mlp_bias
    if kind.window is None:
        config |= {"use_sliding_window": bool(spec.window)}
        if spec.window:
            config["max_window_layers"] = 0
    if kind.window is not False:
        config["sliding_window"] = spec.window or None
    return config


def decoder_weights(spec: DecoderSpec, text: str) -> dict[str, tuple[str, str]]:
    """The decoder's part of a family's `weight_map`; `text` is its module, `model` as a rule."""
    names: dict[str, tuple[str, str]] = {
        "decoder/embed": (f"{text}.embed_tokens.weight", "same"),
        "decoder/norm/scale": (f"{text}.norm.weight", "same"),
    }
    layer = f"{text}.layers.{{}}"
    attn, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    for name in ("q", "k", "v", "o"):
        linear(
            names, f"decoder/layers/attn/{name}", f"{attn}.{name}_proj",
            bias=spec.o_bias if name == "o" else spec.qkv_bias,
        )  # fmt: skip
    for name in ("gate", "up", "down"):
        linear(names, f"decoder/layers/mlp/{name}", f"{mlp}.{name}_proj", bias=spec.mlp_bias)
    if spec.qk_norm:
        for name in ("q_norm", "k_norm"):
            names[f"decoder/layers/attn/{name}/scale"] = (f"{attn}.{name}.weight", "same")
    names["decoder/layers/norm1/scale"] = (f"{layer}.input_layernorm.weight", "same")
    names["decoder/layers/norm2/scale"] = (f"{layer}.post_attention_layernorm.weight", "same")
    if not spec.tied:
        names["decoder/head"] = ("lm_head.weight", "linear")
    return names


def decoder_unused(spec: DecoderSpec, name: str) -> bool:
    """Whether a file may hold the tensor though the decoder does not use it.

    A tied head is the embedding; old files hold rotary frequencies.
    """
    if spec.tied and name == "lm_head.weight":
        return True
    return bool(re.fullmatch(r".*\.rotary_emb\.inv_freq", name))


def same_name(name: str) -> str:
    """The `module_name` and `file_name` of families whose files hold the names of the modules."""
    return name


def no_weights(spec: object) -> dict[str, np.ndarray]:
    """The `unused_weights` of families of which transformers misses none: none."""
    return {}


def unused_by_decoder(spec: ModelSpec, name: str) -> bool:
    """The `is_unused` of families whose other parts leave nothing of a file unused."""
    return decoder_unused(spec.text, name)


def linear(names: dict[str, tuple[str, str]], ours: str, theirs: str, *, bias: bool):
    """Adds a linear layer to a weight map."""
    names[f"{ours}/kernel"] = (f"{theirs}.weight", "linear")
    if bias:
        names[f"{ours}/bias"] = (f"{theirs}.bias", "same")
