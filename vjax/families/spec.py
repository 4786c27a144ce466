"""What a checkpoint is made of, read from its config.json (table "Model spec" of WORKSPACE.md)."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TowerSpec:
    """A vision transformer over square images.

    `select_layer` counts hidden states as transformers does: -1 is the output of the last block,
    before any final norm; -2 drops the last block.
    """

    width: int
    layers: int
    heads: int
    ffn: int
    image_size: int
    patch_size: int
    act: str = "gelu_pytorch_tanh"
    norm_eps: float = 1e-6
    select_layer: int = -1

    @property
    def patches(self) -> int:
        """Patches (vision tokens) of one image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def used_layers(self) -> int:
        """Blocks that run, given `select_layer`."""
        return self.layers + 1 + self.select_layer


@dataclasses.dataclass(frozen=True)
class ProjectorSpec:
    """From tower width to decoder width: two linear layers, an activation between (LLaVA-1.5)."""

    kind: str = "mlp2"
    act: str = "gelu"


@dataclasses.dataclass(frozen=True)
class DecoderSpec:
    """A pre-norm causal decoder with rotary positions, grouped-query attention and SwiGLU."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    tied: bool = True


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A Video-LLM: tower, projector, decoder and the token ids that tie them together."""

    family: str
    vision: TowerSpec
    projector: ProjectorSpec
    text: DecoderSpec
    image_token_id: int
    frame_token_id: int
    end_token_id: int
    pad_token_id: int


@dataclasses.dataclass(frozen=True)
class VideoSpec:
    """How videos reach the model; saved as video_spec.json, for training and inference alike."""

    image_size: int
    store_size: int
    resize: str = "swscale"
    frame_repeat: int = 1
    position_rule: str = "plain"
    fps: float = 4.0
