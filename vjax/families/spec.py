"""What a checkpoint is made of, read from its config.json (table "Model spec" of WORKSPACE.md)."""

import dataclasses
import math
from collections.abc import Mapping

VIDEO_SPEC = "video_spec.json"  # the file that a checkpoint folder has a VideoSpec in
NO_TOKEN = -1  # the id of a special token that a tokenizer does not have


HALF = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class TowerSpec:
    """A vision transformer over images, which see nothing of each other.

    Attributes:
      image_size: side in pixels of the images it was made for; fixes the size of a `table`.
      select_layer: counts hidden states as transformers does: -1 is the output of the last block,
        before any final norm; -2 drops the last block.
      position: `table` adds a learned vector to each patch; `fractional` that of the cell of the
        table which the patch lies in where the image is stretched over it (arXiv 2307.06304,
        section 2.1), `resampled` the table brought to the image's rows and columns (SigLIP 2's
        NaFlex, arXiv 2502.14786), each for images of any size; `rope2d` rotates queries and keys by
        the patch's row and column (axial, arXiv 2409.12191), for images of any size.
      table_side: cells along a side of a `fractional` table; or, beside `rope2d`, of one that is
        brought to the grid of each image, bilinear, and added to its patches (Qwen3-VL), 0 = none.
      rope_theta: of `rope2d`.
      temporal_patch: frames that one patch spans; a single frame is taken that many times.
      merge: side of the blocks of patches that lie together in the order of patches.
      fused_qkv: one linear layer for queries, keys and values.
      patch_bias: of the patch embedding.
      class_token: a learned vector goes before the patches of each image, with a row of the table
        of its own (CLIP, arXiv 2103.00020); `keep_class`: it is among the features.
      pre_norm, post_norm: a LayerNorm before the first block; after the last.
      norm: `layer` or `rms`, of the blocks.
      gated: the feed-forward is SwiGLU's, `act` of one half times another.
      qkv_bias: of queries, keys and values; qk_norm: queries and keys, all heads of one together,
        pass an RMSNorm; layer_scale: what a block adds is scaled, each channel by a learned number
        (arXiv 2103.17239, equation 3). InternViT has these (arXiv 2312.14238).
      window: side in patches of the squares that an image is cut into, from its upper left corner,
        patches of one seeing nothing of another (arXiv 2502.13923, section 2.1.1); 0 = none.
      full_layers: blocks, counted from 0, in which patches see the whole image all the same.
      taps: blocks, counted from 0, whose outputs are features too, after those of the last side by
        side in channels (DeepStack, arXiv 2406.04334).
      time_rate: time positions (M-RoPE) a second of a video; 0 = one a temporal patch.
      mean, std: of RGB in 0 ... 1, which pixels are normalised by.
      model_type: the transformers class that it equals, where the tower has a config of its own.
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
    position: str = "table"
    table_side: int = 0
    rope_theta: float = 10_000.0
    temporal_patch: int = 1
    merge: int = 1
    fused_qkv: bool = False
    patch_bias: bool = True
    class_token: bool = False
    keep_class: bool = False
    pre_norm: bool = False
    post_norm: bool = False
    norm: str = "layer"
    gated: bool = False
    qkv_bias: bool = True
    qk_norm: bool = False
    layer_scale: bool = False
    window: int = 0
    full_layers: tuple[int, ...] = ()
    taps: tuple[int, ...] = ()
    time_rate: float = 0.0
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF
    model_type: str = "siglip_vision_model"

    @property
    def patches(self) -> int:
        """Patches of one image of `image_size`."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def features(self) -> int:
        """Vectors that the tower gives for one image of `image_size`."""
        return self.patches + self.keep_class

    @property
    def used_layers(self) -> int:
        """Blocks that run, given `select_layer`."""
        return self.layers + 1 + self.select_layer


@dataclasses.dataclass(frozen=True)
class ProjectorSpec:
    """From tower width to decoder width.

    Attributes:
      kind: the module of vjax/models/connectors that reads the rest.
      hidden: width between them; 0 = the decoder's (LLaVA-1.5).
      merge: side of the blocks of patches that become one token, side by side in its channels.
      norm: one of the tower's kind before (Qwen2-VL's PatchMerger: merge 2, norm, hidden 4 x the
        tower's).
      pool: frames, unlike stills, are shrunk by it, side by side: by `pool_kind` bilinear after the
        layers, a side that it does not divide rounded up (LLaVA-OneVision); or by average before
        them, what is left over dropped (LLaVA-NeXT-Video).
      newline: there is a learned vector that ends the rows of a still's grid; `video_newline`: it
        ends videos too.
      stride: of a convolution over time, rows and columns of a video, and its kernel's size; () =
        each frame for itself. A frame shown alone is then as many equal ones as it steps over.
      padding: zeros around it, in all three.
      depth: blocks of layers before it, and after.
      clip: frames that the family's processor makes of each image or shorter video.
    """

    kind: str = "mlp2"
    act: str = "gelu"
    hidden: int = 0
    merge: int = 1
    norm: bool = False
    pool: int = 1
    newline: bool = False
    pool_kind: str = "bilinear"
    video_newline: bool = False
    stride: tuple[int, ...] = ()
    padding: int = 0
    depth: int = 0
    clip: int = 0


@dataclasses.dataclass(frozen=True)
class TilesSpec:
    """A still cut into tiles of the tower's size, beside the whole of it (LLaVA-NeXT, -OneVision).

    Attributes:
      sizes: (height, width) in pixels that stills are fitted to.
      most: a grid of more patches than this many tiles is shrunk (anyres_max_9: 9); 0 = never.
      alone: a still is cut only where it is the one still of its conversation.
      crop: frames keep their shape and are cut square from the middle; else they are squeezed.
    """

    sizes: tuple[tuple[int, int], ...]
    most: int = 0
    alone: bool = False
    crop: bool = False


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Slower rotary frequencies for longer contexts (transformers' `rope_parameters`).

    `linear` divides all of them by `factor`; `llama3` those whose wavelength is beyond
    `original_length / low`, and blends down to `original_length / high`; `dynamic` those of rows
    longer than `original_length`, which are not computed here. Two names are not known to
    transformers, and files that it opens hold what they come to: `position_interpolation` (arXiv
    2306.15595) is `linear`, and `theta_scale` multiplies the base by `factor ** alpha` (LWM, arXiv
    2402.08268), so that channel pair i of H / 2 slows by factor ** (2 i alpha / H), the first not
    at all. The two are not the same.
    """

    kind: str
    factor: float
    low: float = 1.0
    high: float = 4.0
    original_length: int = 8192
    alpha: float = 1.0


@dataclasses.dataclass(frozen=True)
class DecoderSpec:
    """A pre-norm causal decoder with rotary positions, grouped-query attention and SwiGLU.

    Attributes:
      model_type: the transformers class it equals: llama, mistral, qwen2 or qwen3.
      qkv_bias, o_bias, mlp_bias: which linear layers have one.
      qk_norm: queries and keys pass an RMSNorm over each head before they are rotated.
      window: a token sees this many of the last tokens, itself among them; 0 = all.
      mrope: frequencies that follow time, height and width of a position (M-RoPE, arXiv
        2409.12191, section 2.1); () = positions are one number.
      interleaved: they take turns, time, height, width, ..., what is left over being time's
        (Qwen3-VL); else each has its frequencies side by side.
    """

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
    model_type: str = "qwen2"
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    window: int = 0
    rope_scaling: RopeScaling | None = None
    mrope: tuple[int, ...] = ()
    interleaved: bool = False


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A Video-LLM: tower, projector, decoder and the token ids that tie them together.

    A language model alone has neither tower nor projector; ids that it lacks are NO_TOKEN.

    Attributes:
      pictures: how its own processor cuts images and videos (the module of that name in
        prompts/processors) and its reference class takes them (in interop/arguments): `squares` of
        the tower's size, which only the latter knows; `middles`, those cut from the middle; `tiles`
        of it; `split`, squares that the text names, or `crops` in one; `grids` of patches; those,
        `pruned` in videos; `timed_grids`, a run of them for each time of a video; `clips`, which
        the projector sees whole.
      template_ends: its chat template writes the end of an answer; where it need not, as Vicuna's,
        and does not, that is `end_token_id`.
      plain_content: its chat template takes what a message holds as one text, pictures being texts.
      still_vision: the tower of stills, where they have one of their own.
      video_frames: a video is always as many frames; fewer are each repeated, as evenly as can be
        (rule `spread`: place i of n shows frame i * m // n of m). 0 = as many as there are.
      uncountable: why a model does not see how many frames there are, where that is so: SF2T then
        refuses `counting` with this reason.
    """

    family: str
    vision: TowerSpec | None
    projector: ProjectorSpec | None
    text: DecoderSpec
    image_token_id: int
    frame_token_id: int
    end_token_id: int
    pad_token_id: int
    video_token_id: int = NO_TOKEN
    tiles: TilesSpec | None = None
    pictures: str = "squares"
    template_ends: bool = True
    plain_content: bool = False
    still_vision: TowerSpec | None = None
    video_frames: int = 0
    uncountable: str = ""

    @property
    def frame_side(self) -> int:
        """Vision tokens along a side of a frame of the tower's size."""
        side = self.vision.image_size // self.vision.patch_size // self.projector.merge
        if self.projector.pool_kind == "average":
            return side // self.projector.pool
        return -(-side // self.projector.pool)

    @property
    def frame_tokens(self) -> int:
        """Vision tokens of a frame of the tower's size."""
        if self.projector.stride:
            return self.clip_tokens(self.projector.stride[0])
        return self.frame_side**2 + self.vision.keep_class

    @property
    def picture_tokens(self) -> int:
        """The same of a picture in the batch's `images`: a frame, and a still where both towers
        look at each picture."""
        return self.frame_tokens + (self.still_vision.features if self.still_vision else 0)

    @property
    def frame_repeat(self) -> int:
        """Equal frames that a frame shown alone is to the model."""
        return self.vision.temporal_patch * (self.projector.stride or (1,))[0]

    def clip_tokens(self, frames: int) -> int:
        """Vision tokens of a video of so many frames, where the projector sees it whole."""
        side, zeros = self.vision.image_size // self.vision.patch_size, 2 * self.projector.padding
        sizes = zip((frames, side, side), self.projector.stride, strict=True)
        return math.prod((size + zeros - step) // step + 1 for size, step in sizes)


@dataclasses.dataclass(frozen=True)
class Placeholder:
    """What stands for a picture in a conversation.

    Attributes:
      part: of a message's content, for the chat template.
      token: id of the one token that it renders and that is repeated for the picture's patches.
      text: what it renders instead, where the processor writes the token in its place; else "".
    """

    part: Mapping[str, str]
    token: int
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Release:
    """A published checkpoint that SF2T has a preset for.

    Attributes:
      hub: its name, `owner/name`.
      image_size: side in pixels of the frames that it is shown.
      counting: it is asked how many frames there are; see `ModelSpec.uncountable`.
    """

    hub: str
    image_size: int = 224
    counting: bool = True


@dataclasses.dataclass(frozen=True)
class VideoSpec:
    """How videos reach the model; saved as video_spec.json, for training and inference alike."""

    image_size: int
    store_size: int
    resize: str = "swscale"
    frame_repeat: int = 1
    position_rule: str = "plain"
    fps: float = 4.0
