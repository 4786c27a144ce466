"""Settings that all tests share; read before anything imports jax or transformers."""

import importlib.util
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# meshes are tried on 8 devices; what says nothing of a mesh runs on the first
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    flags_of_xla = (os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8")
    os.environ["XLA_FLAGS"] = " ".join(filter(None, flags_of_xla))

import hypothesis  # noqa: E402
from absl import flags  # noqa: E402

# Grain's prefetch reads absl flags, which nobody parses under pytest
flags.FLAGS.mark_as_parsed()

# the same examples every time; a loaded machine is no failure
hypothesis.settings.register_profile("vjax", deadline=None, derandomize=True)
hypothesis.settings.load_profile("vjax")


def pytest_addoption(parser):
    parser.addoption("--models-page", help="write docs/models.md from what the tests see")


def pytest_sessionfinish(session):
    path = session.config.getoption("--models-page")
    if path and not session.testsfailed:
        from tests.interop import page

        page.write(path)


def _let_torchvision_import():
    """A torchvision built for CUDA beside a CPU torch does not import: three operators are missing.

    Nothing here calls them, so their signatures are enough.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in (
        "nms(Tensor boxes, Tensor scores, float threshold) -> Tensor",
        "qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor",
        "roi_align(Tensor input, Tensor rois, float scale, int height, int width, "
        "int ratio, bool aligned) -> Tensor",
    ):
        library.define(operator)
    return library  # the operators live as long as it does


if importlib.util.find_spec("torchvision"):
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        import sys

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _torchvision_operators = _let_torchvision_import()
