"""Prompts and pixels of real families against transformers' processors and chat templates."""

import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.interop.theirs import note
from vjax.families import internvl, spec_of
from vjax.prompts import Prompt
from vjax.prompts.chat import Chat
from vjax.prompts.media import Native, Squares
from vjax.prompts.processors import split
from vjax.prompts.processors.tiles import TilePixels

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("torchvision")
smolvlm_words = pytest.importorskip("transformers.models.smolvlm.processing_smolvlm")

QWEN = (
    "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
NOT_GIVEN = ("mm_token_type_ids", "image_sizes_videos")  # what ids and pixels tell as well
LLAMA3 = ("<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>")
LLAMA2 = ("<unk>", "<s>", "</s>")
ONEVISION = ("<|im_start|>", "<|im_end|>", "<image>", "<video>")
INTERN = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
SMOL = (
    "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>",
    *(f"<row_{a}_col_{b}>" for a in (1, 2, 3) for b in (1, 2, 3)),
)  # fmt: skip

# templates of our own, of the same structure as those that these families were released with
QWEN_TEMPLATE = """\
{% for message in messages %}
{% if loop.first and message.role != 'system' %}
<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}
<|im_start|>{{ message.role }}
{% if message.content is string %}
{{ message.content }}<|im_end|>
{% else %}
{%- for part in message.content -%}
{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>
{%- else %}{{ part.text }}{% endif %}
{%- endfor %}<|im_end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""
LLAMA3_TEMPLATE = """\
{% for message in messages %}
<|im_start|>{{ message.role }}
{% if message.content is string %}
{{ message.content }}<|im_end|>
{% else %}
{%- for part in message.content -%}
{% if part.type == 'image' %}{{ '<|image_pad|>\n' }}
{%- elif part.type == 'video' %}{{ '<|video_pad|>\n' }}
{%- else %}{{ part.text }}{% endif %}
{%- endfor %}<|im_end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""
LLAMA2_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)
ONEVISION_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + ' ' }}"
    "{% for part in message.content | selectattr('type', 'equalto', 'image') %}<image>{% endfor %}"
    "{% for part in message.content | selectattr('type', 'equalto', 'video') %}<video>{% endfor %}"
    "{% for part in message.content | selectattr('type', 'equalto', 'text') %}"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ '\\n' + part.text }}{% endgeneration %}"
    "{% else %}{{ '\\n' + part.text }}{% endif %}"
    "{% endfor %}"
    "{{ '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
INTERN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part.type == 'video' %}{{ '<video>\n' }}"
    "{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# without `video`, for which the processor takes a template of its own
SMOL_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message.role | capitalize }}"
    "{% if message.content[0].type == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% elif part.type == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
VICUNA = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<video>")
# an answer has no end in it, and the tokenizer puts <s> before all
VICUNA_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message.role.upper() + ': ' }}"
    "{% for part in message.content | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for part in message.content | selectattr('type', 'equalto', 'video') %}"
    "{{ '<video>\n' }}{% endfor %}"
    "{% for part in message.content | selectattr('type', 'equalto', 'text') %}"
    "{{ part.text + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def small_tokenizer(special):
    tokenizer = Tokenizer(models.BPE())
    if special is VICUNA:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[AddedToken(t, special=True) for t in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    said = "user assistant system What happens here? Yes USER: ASSISTANT: \n"
    tokenizer.train_from_iterator([said] * 20, trainer)
    return tokenizer


def photo(height, width, shift=0):
    data = pytest.importorskip("skimage.data")
    return np.tile(data.astronaut(), (2, 2, 1))[shift : shift + height, shift : shift + width]


def video(frames, height, width):
    return tuple(photo(height, width, 7 * n) for n in range(frames))


def small_text(model_type, **more):
    """The config of a decoder."""
    return dict(
        model_type=model_type, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=64, vocab_size=300, **more,
    )  # fmt: skip


def small_clip(patch_size):
    """The config of a tower."""
    return dict(
        model_type="clip_vision_model", hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=patch_size,
    )  # fmt: skip


class Qwen:
    """The family with its processor, on small pictures."""

    name, classes = "qwen2_vl", "Qwen2VL"
    vision = dict(depth=1, embed_dim=32, num_heads=2, hidden_size=32, mlp_ratio=2)
    text = dict(rope_parameters=dict(type="mrope", mrope_section=[2, 3, 3], rope_theta=1e4))
    videos, pixels, options = "Qwen2VL", {}, {"videos_kwargs": {"cap_pixels_per_frame": False}}

    def __init__(self, folder):
        tokenizer = small_tokenizer(QWEN)
        ids = {name: tokenizer.token_to_id(name) for name in QWEN}
        config = getattr(transformers, f"{self.classes}Config")(
            vision_config=self.vision,
            text_config=dict(
                hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                intermediate_size=64, vocab_size=300, eos_token_id=ids["<|im_end|>"], **self.text,
            ),
            image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
        )  # fmt: skip
        size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 40 * 28 * 28}
        self.processor = getattr(transformers, f"{self.classes}Processor")(
            image_processor=transformers.Qwen2VLImageProcessor(size=size, **self.pixels),
            video_processor=getattr(transformers, f"{self.videos}VideoProcessor")(
                size=size, **self.pixels
            ),
            tokenizer=fast(tokenizer, QWEN), chat_template=QWEN_TEMPLATE,
        )  # fmt: skip
        self.config = config
        self.save(folder)

    def reference(self):
        """Its model, of random weights."""
        return getattr(transformers, f"{self.classes}ForConditionalGeneration")(self.config)

    def save(self, folder):
        self.folder = folder
        self.processor.save_pretrained(folder)
        self.config.save_pretrained(folder)
        self.spec = spec_of(self.config.to_dict())
        self.native = Chat.from_folder(
            folder, self.spec, Native.from_folder(folder, self.spec), position_rule="hf5"
        )


class Qwen25(Qwen):
    name, classes = "qwen2_5_vl", "Qwen2_5_VL"
    vision = dict(
        depth=2, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=32,
        window_size=56, fullatt_block_indexes=[1], tokens_per_second=2,
    )  # fmt: skip


class Qwen3(Qwen):
    """With patches of 14 pixels, where those released have 16, to share pictures with the others;
    a whole video has the room that there is a frame."""

    name, classes = "qwen3_vl", "Qwen3VL"
    vision = dict(
        depth=2, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=32,
        patch_size=14, num_position_embeddings=25, deepstack_visual_indexes=[0],
    )  # fmt: skip
    text = dict(
        head_dim=16,
        rope_parameters=dict(
            rope_type="default", mrope_section=[4, 2, 2], mrope_interleaved=True, rope_theta=1e4
        ),
    )
    videos, options = "Qwen3VL", {"videos_kwargs": {"do_sample_frames": False}}
    pixels = dict(patch_size=14, image_mean=[0.5] * 3, image_std=[0.5] * 3)


class Llama3(Qwen):
    name, classes = "video_llama_3", "VideoLlama3"

    def __init__(self, folder):
        tokenizer = small_tokenizer(LLAMA3)
        ids = {name: tokenizer.token_to_id(name) for name in LLAMA3}
        self.config = transformers.VideoLlama3Config(
            vision_config=dict(
                hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                patch_size=14,
            ),
            text_config=small_text("qwen2", eos_token_id=ids["<|im_end|>"]),
            image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        )  # fmt: skip
        size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 40 * 28 * 28}
        self.processor = transformers.VideoLlama3Processor(
            image_processor=transformers.VideoLlama3ImageProcessor(size=size),
            video_processor=transformers.VideoLlama3VideoProcessor(size=size),
            tokenizer=fast(tokenizer, LLAMA3), chat_template=LLAMA3_TEMPLATE,
        )  # fmt: skip
        self.options = {}
        self.save(folder)


class OneVision(Qwen):
    name, classes = "llava_onevision", "LlavaOnevision"

    def __init__(self, folder):
        tokenizer = small_tokenizer(ONEVISION)
        ids = {name: tokenizer.token_to_id(name) for name in ONEVISION}
        sizes = [[56 * a, 56 * b] for a in (1, 2, 3) for b in (1, 2, 3)]
        config = transformers.LlavaOnevisionConfig(
            vision_config=dict(
                model_type="siglip_vision_model", hidden_size=32, intermediate_size=64,
                num_hidden_layers=1, num_attention_heads=2, image_size=56, patch_size=8,
                vision_use_head=False,
            ),
            text_config=small_text(
                "qwen2", eos_token_id=ids["<|im_end|>"], tie_word_embeddings=True
            ),
            image_token_index=ids["<image>"], video_token_index=ids["<video>"],
            image_grid_pinpoints=sizes, vision_aspect_ratio="anyres_max_4",
        )  # fmt: skip
        half = dict(size={"height": 56, "width": 56}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        self.processor = transformers.LlavaOnevisionProcessor(
            image_processor=transformers.LlavaOnevisionImageProcessor(
                image_grid_pinpoints=sizes, **half
            ),
            video_processor=transformers.LlavaOnevisionVideoProcessor(**half),
            tokenizer=fast(tokenizer, ONEVISION), chat_template=ONEVISION_TEMPLATE,
            num_image_tokens=49, vision_feature_select_strategy="full",
            vision_aspect_ratio="anyres_max_4",
        )  # fmt: skip
        self.config, self.options = config, {}
        self.save(folder)


class Smol(Qwen):
    name, classes = "smolvlm", "SmolVLM"

    def __init__(self, folder):
        tokenizer = small_tokenizer(SMOL)
        config = transformers.SmolVLMConfig(
            vision_config=dict(
                model_type="smolvlm_vision", hidden_size=32, intermediate_size=64,
                num_hidden_layers=1, num_attention_heads=2, image_size=56, patch_size=14,
            ),
            text_config=small_text("llama", pad_token_id=2),
            image_token_id=tokenizer.token_to_id("<image>"), scale_factor=2,
        )  # fmt: skip
        sizes = dict(size={"longest_edge": 150}, max_image_size={"longest_edge": 56})
        if smolvlm_words.num2words is None:  # without that package the class does not open
            smolvlm_words.num2words = split.number
        self.processor = transformers.SmolVLMProcessor(
            image_processor=transformers.SmolVLMImageProcessor(**sizes),
            video_processor=transformers.SmolVLMVideoProcessor(**sizes),
            tokenizer=fast(tokenizer, SMOL, "<end_of_utterance>"),
            chat_template=SMOL_TEMPLATE, image_seq_len=4,
        )  # fmt: skip
        self.config, self.options = config, {}
        self.save(folder)


class NextVideo(Qwen):
    name, classes = "llava_next_video", "LlavaNextVideo"

    def __init__(self, folder):
        tokenizer = small_tokenizer(VICUNA)
        ids = {name: tokenizer.token_to_id(name) for name in VICUNA}
        sizes = [[56 * a, 56 * b] for a, b in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]
        config = transformers.LlavaNextVideoConfig(
            vision_config=small_clip(7),
            text_config=small_text("llama", pad_token_id=ids["<pad>"]),
            image_token_index=ids["<image>"], video_token_index=ids["<video>"],
            image_grid_pinpoints=sizes,
        )  # fmt: skip
        middle = dict(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
        self.processor = transformers.LlavaNextVideoProcessor(
            image_processor=transformers.LlavaNextImageProcessor(
                image_grid_pinpoints=sizes, **middle
            ),
            video_processor=transformers.LlavaNextVideoVideoProcessor(**middle),
            tokenizer=fast(tokenizer, VICUNA, "</s>", bos_token="<s>"),
            chat_template=VICUNA_TEMPLATE, patch_size=7, num_additional_image_tokens=1,
            vision_feature_select_strategy="default",
        )  # fmt: skip
        self.config, self.options = config, {}
        self.save(folder)


class Intern(Qwen):
    name, classes = "internvl", "InternVL"

    def __init__(self, folder):
        tokenizer = small_tokenizer(INTERN)
        image = tokenizer.token_to_id("<IMG_CONTEXT>")
        config = transformers.InternVLConfig(
            vision_config=dict(
                hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                image_size=56, patch_size=14, attention_bias=True,
            ),
            text_config=small_text("qwen2", eos_token_id=tokenizer.token_to_id("<|im_end|>")),
            image_token_id=image,
        )  # fmt: skip
        sizes = dict(
            size={"height": 56, "width": 56}, image_mean=internvl.MEAN, image_std=internvl.STD
        )
        names = ("start_image_token", "end_image_token", "context_image_token", "video_token")
        self.processor = transformers.InternVLProcessor(
            image_processor=transformers.GotOcr2ImageProcessor(max_patches=6, **sizes),
            video_processor=transformers.InternVLVideoProcessor(**sizes),
            tokenizer=transformers.PreTrainedTokenizerFast(
                tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>",
                extra_special_tokens=dict(zip(names, INTERN[2:], strict=True)),
            ),
            chat_template=INTERN_TEMPLATE, image_seq_length=4,
        )  # fmt: skip
        self.config, self.options = config, {}
        self.save(folder)


def fast(tokenizer, special, end="<|im_end|>", **names):
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=end,
        additional_special_tokens=list(special), **names,
    )  # fmt: skip


QWENS = (Qwen, Qwen25, Qwen3)


class VideoLlava(Qwen):
    name, classes = "video_llava", "VideoLlava"

    def __init__(self, folder):
        tokenizer = small_tokenizer(VICUNA)
        ids = {name: tokenizer.token_to_id(name) for name in VICUNA}
        config = transformers.VideoLlavaConfig(
            vision_config=small_clip(14),
            text_config=small_text("llama", pad_token_id=ids["<pad>"]),
            image_token_index=ids["<image>"], video_token_index=ids["<video>"],
        )  # fmt: skip
        middle = dict(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
        self.processor = transformers.VideoLlavaProcessor(
            image_processor=transformers.VideoLlavaImageProcessor(**middle),
            video_processor=transformers.VideoLlavaVideoProcessor(**middle),
            tokenizer=fast(tokenizer, VICUNA, "</s>", bos_token="<s>"),
            chat_template=VICUNA_TEMPLATE, patch_size=14, num_additional_image_tokens=1,
            vision_feature_select_strategy="default",
        )  # fmt: skip
        modern = {"images_kwargs": {"return_legacy_image_output": False}}  # pixel_values, no more
        self.config, self.options = config, modern
        self.save(folder)


class Llama2(Qwen):
    """Its processor is written here after its authors' code, for transformers has none."""

    name, classes = "videollama2_mistral", ""  # transformers has none

    def __init__(self, folder):
        from tests.interop import videollama2

        tokenizer = small_tokenizer(LLAMA2)
        self.settings = dict(
            model_type=self.name, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, intermediate_size=64, vocab_size=300,
            eos_token_id=tokenizer.token_to_id("</s>"), mm_hidden_size=32, num_frames=4,
            mm_projector_type="stc_connector", mm_vision_tower="clip-vit-large-patch14-336",
            mm_vision_select_layer=-2, mm_vision_select_feature="patch",
            video_token_id=tokenizer.token_to_id("<unk>"),
            vision_config=small_clip(14),
        )  # fmt: skip
        named = fast(tokenizer, LLAMA2, "</s>", bos_token="<s>", unk_token="<unk>")
        named.chat_template = LLAMA2_TEMPLATE
        side = dict(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
        self.processor = videollama2.Processor(
            named, transformers.CLIPImageProcessor(**side), frames=4,
            token=self.settings["video_token_id"],
            tokens_of=lambda frames: ((frames + 2 - 2) // 2 + 1) * 3 * 3,
        )  # fmt: skip
        self.options = {}
        self.save(folder)

    @property
    def config(self):
        return self

    def to_dict(self):
        return self.settings

    def save_pretrained(self, folder):
        (folder / "config.json").write_text(json.dumps(self.settings))

    def reference(self):
        from tests.interop.videollama2 import VideoLlama2

        return VideoLlama2(self.settings)


TILED = (OneVision, NextVideo)


@pytest.fixture(
    scope="module",
    params=[*QWENS, Llama3, *TILED, VideoLlava, Smol, Intern, Llama2],
    ids=lambda family: family.name,
)
def family(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp(request.param.name))


ASK = ("text", "What happens here?")
EVERY = 0.75  # seconds from frame to frame of videos that have times
CONVERSATIONS = {
    "one video": [((("video", (0, 1, 2, 3, 4)), ASK), video(5, 60, 90))],
    "a video with times": [((("video", (0, 1, 2, 3, 4, 5, 6, 7)), ASK), video(8, 60, 60))],
    "a video that stands still": [((("video", (0, 0, 1, 1, 0)), ASK), video(2, 90, 60))],
    "two videos": [
        ((("video", (0, 1)), ("video", (2, 3)), ASK), video(2, 90, 60) + video(2, 120, 120))
    ],
    "an image": [((("image", 0), ASK), video(1, 150, 90))],
    "a long image": [((("image", 0), ASK), video(1, 40, 170))],
    "two images": [((("image", 0), ("image", 1), ASK), video(1, 80, 90) + video(1, 90, 190))],
    "words": [((ASK,), ())],
    "turns": [
        ((("video", (0, 1)), ASK), video(2, 60, 60)),
        ((("text", "Here?"),), ()),
        ((("image", 0), ("text", "user\nHere?")), video(1, 90, 70)),
    ],
}


def turns_of(name):
    """The conversation as prompts; every answer is `Yes`."""
    timed = "times" in name
    return [
        Prompt(parts, shown, "Yes", times=tuple(EVERY * n for n in range(len(shown) * timed)))
        for parts, shown in CONVERSATIONS[name]
    ]


def theirs(family, name, *, with_answer):
    """What the processor makes of it."""
    conversation = CONVERSATIONS[name]
    messages, images, videos = [], [], []
    for parts, shown in conversation:
        content = []
        for kind, value in parts:
            if kind == "text":
                content.append({"type": "text", "text": value})
            else:
                content.append({"type": kind})
                if kind == "image":
                    images.append(shown[value].transpose(2, 0, 1))
                else:
                    videos.append(np.stack([shown[n] for n in value]).transpose(0, 3, 1, 2))
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": "Yes"}]})
    text = family.processor.apply_chat_template(
        messages if with_answer else messages[:-1], tokenize=False,
        add_generation_prompt=not with_answer,
    )  # fmt: skip
    media = {}
    if images:
        media["images"] = [[torch.from_numpy(image) for image in images]]
    if videos:
        media["videos"] = [torch.from_numpy(frames) for frames in videos]
        if "times" in name:
            media["video_metadata"] = [
                dict(fps=1 / EVERY, total_num_frames=len(v), frames_indices=list(range(len(v))))
                for v in videos
            ]
    found = family.processor(text=[text], return_tensors="pt", **media, **family.options)
    return {name: np.asarray(value) for name, value in found.items()}


def encoded(family, name, **options):
    return family.native.encode(turns_of(name), **options)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_token_ids_are_those_of_the_processor(family, name):
    got = encoded(family, name, with_answer=False)
    want = theirs(family, name, with_answer=False)["input_ids"][0]
    assert got.tokens.tolist() == want.tolist()
    earlier = len(CONVERSATIONS[name]) - 1
    said = family.native.candidate("Yes", end=family.spec.template_ends)
    assert got.tokens[got.answer].tolist() == said * earlier


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_an_answer_follows_the_question_as_it_was_asked(family, name):
    got, asked = encoded(family, name), encoded(family, name, with_answer=False)
    reply = family.native.candidate("Yes")
    assert got.tokens.tolist() == [*asked.tokens, *reply]
    assert family.native.length(turns_of(name)) == len(got.tokens)
    assert got.answer[-len(reply) :].all()
    if not isinstance(
        family, (*TILED, VideoLlava)
    ):  # whose templates open or end an answer otherwise
        want = theirs(family, name, with_answer=True)["input_ids"][0]
        assert got.tokens.tolist() == want[: len(got.tokens)].tolist()


@pytest.mark.parametrize("family", QWENS, indirect=True, ids=lambda family: family.name)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_positions_are_those_of_the_model(family, name):
    got = encoded(family, name, with_answer=False)
    model = getattr(transformers, f"{family.classes}ForConditionalGeneration")(family.config).model
    given = theirs(family, name, with_answer=False)
    told = {
        key: torch.tensor(np.asarray(value))
        for key, value in given.items()
        if key.endswith(("grid_thw", "grid_ts"))
    }
    ids = torch.from_numpy(given["input_ids"])
    types = torch.zeros_like(ids)
    types[ids == family.spec.image_token_id] = 1
    types[ids == family.spec.video_token_id] = 2
    want, _ = model.get_rope_index(ids, mm_token_type_ids=types, **told)
    np.testing.assert_array_equal(got.rope, want[:, 0].T)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_arguments_are_those_that_the_processor_gives(family, name):
    if (family.name, name) == ("smolvlm", "turns"):
        pytest.skip("SmolVLMProcessor loses the images of a conversation that has videos")
    got = family.native.arguments(turns_of(name))
    want = theirs(family, name, with_answer=False)
    want = {k: v for k, v in want.items() if k not in NOT_GIVEN}
    assert got.keys() - {"batch_num_images"} == want.keys() - {"batch_num_images"}
    for key, value in want.items():
        if not key.startswith("pixel_values"):
            np.testing.assert_allclose(got[key], value, rtol=1e-6, err_msg=key)
            note(family.name, "ids", 0)
        else:
            assert got[key].shape == value.shape
            steps = np.abs(got[key] - value).max() * 255 * max(family.spec.vision.std)
            assert steps <= 2.1, key
            note(family.name, "pixels", steps)


def test_blocks_of_a_video_stand_for_what_the_template_shows_of_it_or_within(tmp_path):
    """By rule `qwen` as transformers 4 wrote them, and Qwen's own code; by `hf5` as now."""
    family = Qwen3(tmp_path)
    own = Chat.from_folder(
        tmp_path, family.spec, Native.from_folder(tmp_path, family.spec), position_rule="qwen"
    )
    turns = turns_of("a video with times")
    ids = {name: family.native.tokenizer.token_to_id(name) for name in QWEN}
    start, end = ids["<|vision_start|>"], ids["<|vision_end|>"]
    now, before = (c.encode(turns, with_answer=False).tokens.tolist() for c in (family.native, own))
    assert (now.count(start), before.count(start)) == (5, 4)
    first, last = now.index(start), len(now) - 1 - now[::-1].index(end)
    assert before == now[:first] + now[first + 1 : last] + now[last + 1 :]
    told = own.tokenizer.decode(before[: before.index(start)])
    assert told.endswith("<0.4 seconds>")  # 0.375: the middle of 0 and 0.75


def test_times_of_frames_are_told(tmp_path):
    family, frames = Llama3(tmp_path), video(3, 60, 90)
    prompt = Prompt((("video", (0, 1, 2)), ASK), frames, "Yes", times=(0.0, 0.48, 12.8))
    told = transformers.video_utils.VideoMetadata(
        total_num_frames=400, fps=25.0, frames_indices=[0, 12, 320]
    )
    clip = torch.from_numpy(np.stack(frames).transpose(0, 3, 1, 2))
    text = family.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": ASK[1]}]}],
        tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    want = family.processor(text=[text], videos=[clip], video_metadata=[told], return_tensors="pt")[
        "input_ids"
    ][0]
    got = family.native.encode(prompt, with_answer=False).tokens
    assert got.tolist() == want.tolist()
    assert "Time 0.5s:<|video_pad|>" in family.native.tokenizer.decode(
        got.tolist(), skip_special_tokens=False
    )


@pytest.mark.parametrize("size", [(60, 90), (40, 170), (300, 200), (56, 56), (10, 20)], ids=str)
@pytest.mark.parametrize("make", TILED)
def test_stills_are_cut_as_transformers_cuts_them(make, size, tmp_path):
    family = make(tmp_path)
    image = photo(*size)
    rule = TilePixels.from_folder(tmp_path, family.spec, video=False)
    want = family.processor.image_processor(torch.from_numpy(image.transpose(2, 0, 1)))
    same(rule.still(image), want["pixel_values"][0], rule.std)


def test_stills_among_others_are_padded(tmp_path):
    family = OneVision(tmp_path)
    images = [photo(60, 90), photo(90, 40)]
    rule = TilePixels.from_folder(tmp_path, family.spec, video=False)
    tensors = [torch.from_numpy(image.transpose(2, 0, 1)) for image in images]
    want = family.processor.image_processor([tensors])["pixel_values"]
    for image, pixels in zip(images, want, strict=True):
        same(rule.still(image, alone=False), pixels)


@pytest.mark.parametrize("size", [(97, 133), (133, 97), (31, 56)], ids=str)
@pytest.mark.parametrize("make", TILED)
def test_frames_are_those_of_transformers(make, size, tmp_path):
    family = make(tmp_path)
    frames = np.stack(video(3, *size))
    rule = TilePixels.from_folder(tmp_path, family.spec, video=True)
    want = family.processor.video_processor([torch.from_numpy(frames.transpose(0, 3, 1, 2))])
    same(rule.frames(frames), want["pixel_values_videos"][0], rule.std)


def same(ours, theirs, std=(0.5, 0.5, 0.5), often=1e-4):
    """Up to what torchvision's batched kernel itself moves: one step, rarely two."""
    steps = np.abs(ours.transpose(0, 3, 1, 2) - np.asarray(theirs)) * 255
    steps = steps * np.reshape(std, (3, 1, 1))
    assert steps.max() <= 2.01 and (steps > 1.01).mean() < often


def test_pixel_settings_that_do_not_fit_the_model_are_errors(tmp_path):
    family = OneVision(tmp_path)
    family.processor.image_processor.size = {"height": 64, "width": 64}
    family.processor.image_processor.save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="64.*the tower takes 56 x 56"):
        TilePixels.from_folder(tmp_path, family.spec, video=False)


def test_frames_shown_one_by_one_keep_their_place(family):
    """As jobs show them: a boundary before each, a query after the words that introduce it."""
    chat = Chat.from_folder(family.folder, family.spec, Squares.of(family.spec))
    frames = video(3, 56, 56)
    asked = Prompt((("frame", 0), ("frame", 1), ("text", "Here?"), ("image", 2)), frames, "Yes")
    got = chat.encode(asked)
    said = chat.tokenizer.decode(
        [int(t) for t, v in zip(got.tokens, got.vision, strict=True) if v < 0],
        skip_special_tokens=False,
    )
    if family.spec.video_frames:
        tokens = family.spec.frame_tokens  # of eight frames, then of an image
        assert (got.vision // chat.patches)[got.vision >= 0].tolist() == (
            [0] * 4 * tokens + [1] * 4 * tokens + [2] * family.spec.still_vision.features
        )
        assert "\n Here?" in said or "\nHere?" in said
        return
    patches = chat.patches
    assert got.vision.max() + 1 == 3 * patches
    newlines = int((got.vision == -2).sum())
    assert newlines == (3 if family.name == "llava_onevision" else 0)
    (first, *_) = chat.tokenizer.encode("Here?", add_special_tokens=False).ids
    words = np.flatnonzero(got.tokens == first)
    assert (got.vision[: words[-1]] >= 0).sum() == 2 * patches
    assert "Here?" in said
