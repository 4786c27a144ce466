"""The PyTorch side of benchmarks/rows.py: all rows loaded and tokenised first, then a DataLoader.

Lean for what it is: one rendering and one tokenisation a row, thousands at a time on all cores,
kept as arrays. Frames are read by decord in two workers. Prints a JSON line.
"""

import json
import sys
import time
from pathlib import Path

import cv2
import decord
import jinja2
import numpy as np
import tokenizers
import torch
from processes import memory_mb

FRAMES, CHUNK, IGNORED = 8, 1000, -100
PLACE = "<video>\n"


class Clips(torch.utils.data.Dataset):
    """Token ids, labels and frames of a row."""

    def __init__(self, ids: list, labels: list, videos: list, folder: Path, side: int):
        self.ids, self.labels, self.videos = ids, labels, videos
        self.folder, self.side = folder, side

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, n: int) -> tuple:
        pixels = [self._frames(self.folder / name) for name in self.videos[n]]
        return self.ids[n], self.labels[n], np.concatenate(pixels) if pixels else None

    def _frames(self, path: Path) -> np.ndarray:
        reader = decord.VideoReader(str(path), num_threads=1)
        full = reader.get_batch([i * len(reader) // FRAMES for i in range(FRAMES)]).asnumpy()
        size = (self.side, self.side)
        return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in full])


def collate(samples: list) -> tuple:
    ids, labels, pixels = zip(*samples, strict=True)
    padded = [
        torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, some)), batch_first=True)
        for some in (ids, labels)
    ]
    return *padded, torch.from_numpy(np.concatenate([x for x in pixels if x is not None]))


def messages_of(row: dict) -> tuple[list, list[str]]:
    """Messages with content parts, and the videos they show."""
    videos = row.get("video", [])
    videos = [videos] if isinstance(videos, str) else videos
    messages = []
    for said in row["conversations"]:
        text = said["value"]
        content = [{"type": "frame"}] * FRAMES * text.count(PLACE)
        content.append({"type": "text", "text": text.replace(PLACE, "")})
        role = {"human": "user", "gpt": "assistant"}[said["from"]]
        messages.append({"role": role, "content": content})
    return messages, videos


def main(file: str, folder: str, patches: str, side: str, batch: str):
    torch.set_num_threads(1)
    before, start = memory_mb(), time.perf_counter()
    tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    template = jinja2.Template(Path(folder, "chat_template.jinja").read_text())
    rows = json.loads(Path(file).read_text())
    loaded = time.perf_counter() - start
    ids, labels, videos = [], [], []
    for at in range(0, len(rows), CHUNK):
        texts, spans = [], []
        for row in rows[at : at + CHUNK]:
            messages, shown = messages_of(row)
            text = template.render(messages=messages, add_generation_prompt=False)
            text = text.replace("<image>", "<image>" * int(patches))
            found, place = [], 0
            for message in messages[1::2]:
                answer = message["content"][0]["text"]
                place = text.index(answer, place) + len(answer)
                found.append((place - len(answer), place))
            texts.append(text)
            spans.append(found)
            videos.append(shown)
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
        for one, found in zip(encoded, spans, strict=True):
            tokens, starts = np.array(one.ids), np.array(one.offsets)[:, 0]
            answer = sum((starts >= a) & (starts <= b) for a, b in found) > 0  # its end too
            ids.append(tokens)
            labels.append(np.where(answer, tokens, IGNORED))
    ready = time.perf_counter() - start
    loader = torch.utils.data.DataLoader(
        Clips(ids, labels, videos, Path(file).parent, int(side)),
        batch_size=int(batch),
        shuffle=True,
        num_workers=2,
        collate_fn=collate,
    )
    batches = iter(loader)
    next(batches)
    first, opened = time.perf_counter() - start, memory_mb()
    for _ in range(50):
        next(batches)
    told = dict(loaded=loaded, ready=ready, first=first, before=before, opened=opened)
    print(json.dumps(told | {"later": memory_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
