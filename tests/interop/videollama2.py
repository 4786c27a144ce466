"""VideoLLaMA2 in torch, for tests: transformers has no class of it.

The connector is written from the paper (arXiv 2406.07476, section 3.1) and from what its authors'
code adds to it: stages of four blocks, SiLU behind the convolution, and whether that is padded.
The towers and decoders are transformers' own; the rest is how one is put before the other. Names of
parameters are those of the released files.
"""

import json
import re
import types
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

TOWERS = {
    "clip_vision_model": transformers.CLIPVisionModel,
    "siglip_vision_model": transformers.SiglipVisionModel,
}
PADDING = {"stc_connector": 1, "stc_connector_v35": 0}


class ConvNorm(nn.Module):
    def __init__(self, into, out, size=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(into, out, size, padding=size // 2, groups=groups, bias=False)
        self.bn = nn.LayerNorm(out, eps=1e-5)

    def forward(self, x):
        return self.bn(self.conv(x).movedim(1, -1)).movedim(-1, 1)


class Gate(nn.Module):
    def __init__(self, width, few):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, few, 1), nn.Conv2d(few, width, 1)

    def forward(self, x):
        gate = self.fc2(nn.functional.silu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class Block(nn.Module):
    def __init__(self, into, out):
        super().__init__()
        self.conv1 = ConvNorm(into, out)
        self.conv2 = ConvNorm(out, out, 3, groups=out)
        self.se = Gate(out, round(into / 4))
        self.conv3 = ConvNorm(out, out)
        self.downsample = ConvNorm(into, out) if into != out else nn.Identity()

    def forward(self, x):
        y = nn.functional.silu(self.conv1(x))
        y = self.conv3(self.se(nn.functional.silu(self.conv2(y))))
        return nn.functional.silu(y + self.downsample(x))


class Stage(nn.Sequential):
    def __init__(self, into, out, depth):
        blocks = {f"b{n + 1}": Block(out if n else into, out) for n in range(depth)}
        super().__init__(*blocks.values())
        for name, new in zip(list(self._modules), blocks, strict=True):
            self._modules[new] = self._modules.pop(name)


class Stc(nn.Module):
    def __init__(self, into, out, padding, depth=4, stride=(2, 2, 2)):
        super().__init__()
        self.s1, self.s2 = Stage(into, out, depth), Stage(out, out, depth)
        conv = nn.Conv3d(out, out, stride, stride=stride, padding=padding)
        self.sampler = nn.Sequential(conv, nn.SiLU())
        self.readout = nn.Sequential(nn.Linear(out, out), nn.GELU(), nn.Linear(out, out))

    def forward(self, x):
        """[videos, frames, patches, width] -> [videos, tokens, width]."""
        N, T, P, D = x.shape
        side = int(P**0.5)
        x = self.s1(x.view(N * T, side, side, D).permute(0, 3, 1, 2))
        x = self.sampler(x.unflatten(0, (N, T)).transpose(1, 2)).transpose(1, 2)
        T = x.shape[1]
        x = self.s2(x.flatten(0, 1)).unflatten(0, (N, T))
        return self.readout(x.permute(0, 1, 3, 4, 2).flatten(1, 3))


class VideoLlama2(nn.Module):
    """`config` is the config.json of a released folder, with `vision_config` and
    `video_token_id` beside."""

    def __init__(self, config: dict):
        super().__init__()
        kind = config["model_type"].removeprefix("videollama2_")
        text = {k: v for k, v in config.items() if not k.startswith(("mm_", "vision", "model_"))}
        vision = dict(config["vision_config"])
        tower = TOWERS[vision["model_type"]]
        self.settings, self.select = config, config["mm_vision_select_layer"]
        self.patch = "clip" in vision["model_type"]  # its first feature is no patch
        text = transformers.AutoConfig.for_model(kind, **text)
        self.model = transformers.AutoModel.from_config(text)
        self.model.vision_tower = nn.Module()
        vision.pop("model_type")
        self.model.vision_tower.vision_tower = tower(tower.config_class(**vision))
        self.model.mm_projector = Stc(
            vision["hidden_size"], config["hidden_size"], PADDING[config["mm_projector_type"]]
        )
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    def forward(self, input_ids, attention_mask=None, pixel_values_videos=None):
        """pixel_values_videos [videos, frames, 3, H, W], in the order of their tokens."""
        embeds = self.model.embed_tokens(input_ids)
        if pixel_values_videos is not None:
            tower = self.model.vision_tower.vision_tower
            seen = tower(pixel_values_videos.flatten(0, 1), output_hidden_states=True)
            seen = seen.hidden_states[self.select][:, int(self.patch) :]
            seen = self.model.mm_projector(seen.unflatten(0, pixel_values_videos.shape[:2]))
            here = input_ids == self.settings["video_token_id"]
            embeds = embeds.masked_scatter(here[..., None], seen)
        out = self.model(inputs_embeds=embeds, attention_mask=attention_mask)
        return types.SimpleNamespace(logits=self.lm_head(out.last_hidden_state))

    def save_pretrained(self, folder):
        """As the released folders are."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.settings))
        tensors = {published(k): v.contiguous() for k, v in self.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder):
        """Every tensor of the folder has its place, and every place its tensor."""
        model = cls(json.loads((Path(folder) / "config.json").read_text()))
        names = {published(name): name for name in model.state_dict()}
        tensors = load_file(Path(folder) / "model.safetensors")
        model.load_state_dict({names[k]: v.float() for k, v in tensors.items()})
        return model.eval()


class Processor:
    """What its authors' code makes of conversations: `videollama2/__init__.py`, `mm_utils.py`.

    Its templates take texts. Videos are marked in them, and their places are kept by a number that
    is no token; here by `token`, as often as the projector gives tokens.
    """

    def __init__(self, tokenizer, image_processor, *, frames, token, tokens_of):
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.frames, self.token, self.tokens_of = frames, token, tokens_of

    def save_pretrained(self, folder):
        self.tokenizer.save_pretrained(folder)

    def apply_chat_template(self, messages, **options):
        plain = []
        for message in messages:
            said = [part.get("text", f"<{part['type']}>\n") for part in message["content"]]
            plain.append({"role": message["role"], "content": "".join(said)})
        return self.tokenizer.apply_chat_template(plain, **options)

    def __call__(self, text, images=((),), videos=(), return_tensors="pt", video_metadata=None):
        images, videos, ids, clips = iter(images[0]), iter(videos), [], []
        for part in re.split("(<image>|<video>)", text[0]):
            if part not in ("<image>", "<video>"):
                ids += self.tokenizer(part, add_special_tokens=False).input_ids
                continue
            frames = next(images)[None] if part == "<image>" else next(videos)
            x = self.image_processor(list(frames), return_tensors="pt")["pixel_values"]
            more = self.frames - len(x)
            if more > 0 and part == "<image>":
                x = x.expand(self.frames, -1, -1, -1)
            elif more > 0:
                black = torch.zeros_like(frames[:1]).expand(more, -1, -1, -1)
                black = self.image_processor(list(black), return_tensors="pt")["pixel_values"]
                x = torch.cat([x, black])
            clips.append(x)
            ids += [self.token] * self.tokens_of(len(x))
        found = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))}
        return found | ({"pixel_values_videos": torch.stack(clips)} if clips else {})


def published(name: str) -> str:
    """A module's tensor name -> that of the released files, whose tower has one level more."""
    tower = "model.vision_tower.vision_tower."
    if name.startswith(tower) and not name.startswith(f"{tower}vision_model."):
        return name.replace(tower, f"{tower}vision_model.")
    return name
