"""The PyTorch side of benchmarks/data.py: a DataLoader that tokenises and packs given samples.

Takes a JSON line on stdin, the samples of each row of each batch, and answers with what one pass
over them took. Frames are there already, as on our side.
"""

import json
import sys
import time

import numpy as np
import torch
import transformers

IMAGE, IGNORED = "<image>", -100


class Samples(torch.utils.data.Dataset):
    """Token ids, labels and frames of a sample, the usual way: template, tokenizer, prefixes."""

    def __init__(self, samples: list, folder: str, side: int, patches: int):
        tokens = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
        tokens.chat_template = open(f"{folder}/chat_template.jinja").read()
        self.tokenizer, self.samples, self.patches = tokens, samples, patches
        self.pool = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), np.uint8)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, n: int) -> dict:
        ids, labels, messages, frames = [], [], [], 0
        for asked, answer in self.samples[n]:
            content = []
            for part in asked:
                if isinstance(part, str):
                    content.append({"type": "text", "text": part})
                else:
                    content += [{"type": "frame"}] * part
                    frames += part
            messages.append({"role": "user", "content": content})
            prompt = self._ids(messages, add_generation_prompt=True)
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
            whole = self._ids(messages)
            labels += [IGNORED] * (len(prompt) - len(ids)) + whole[len(prompt) :]
            ids = whole
        pixels = torch.from_numpy(self.pool[np.arange(frames) % len(self.pool)])
        return {"input_ids": ids, "labels": labels, "pixels": pixels}

    def _ids(self, messages: list, **options) -> list[int]:
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, **options)
        text = text.replace(IMAGE, IMAGE * self.patches)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


class Packer:
    """Each row's samples one after another, without padding between them."""

    def __init__(self):
        self.flat = transformers.DataCollatorWithFlattening(return_flash_attn_kwargs=True)

    def __call__(self, samples: list) -> dict:
        pixels = torch.cat([sample.pop("pixels") for sample in samples])
        return self.flat(samples) | {"pixels": pixels}


def main(folder: str, side: str, patches: str):
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    samples, batches = json.loads(sys.stdin.readline())
    loader = torch.utils.data.DataLoader(
        Samples(samples, folder, int(side), int(patches)),
        batch_sampler=batches,
        collate_fn=Packer(),
    )
    tokens = sum(batch["input_ids"].numel() for batch in loader)  # warm, and checked
    print("ready", flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        count = sum(len(batch["input_ids"]) for batch in loader)
        spent = time.perf_counter() - start
        answer = {"seconds": spent, "cpu": time.process_time() - cpu, "tokens": tokens}
        print(json.dumps(answer | {"batches": count}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
