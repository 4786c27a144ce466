"""The figures of a step: what a compiler that refuses says, and what follows from the figures."""

from collections import Counter

import pytest

from vjax.config import defaults, freeze
from vjax.plan.collectives import Traffic
from vjax.plan.machines import CHIPS, GIB, Machine
from vjax.plan.step import Memory, StepPlan, suggest

# of libtpu 0.0.42.1, for a step of Qwen2-VL-2B on v5e:16x16
REFUSED = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
    "(81.66G) exceeds available HBM (15.75G)."
)


def test_what_the_compiler_says_where_it_refuses():
    memory = Memory.exhausted(REFUSED, 5)
    assert (memory.arguments, memory.largest) == (5, "temporaries")
    assert memory.temporaries == pytest.approx(81.66 * GIB)
    much = Memory.exhausted(REFUSED.replace("81.66G", "2.00T"), 5)
    assert much.temporaries == 2 << 40
    assert Memory.exhausted("INTERNAL: something else", 5) is None


@pytest.mark.parametrize(
    ("sizes", "settings", "change"),
    [
        ((6, 12), {}, "--config.train.remat=True"),
        ((15, 19), {"train.remat": True, "mesh.data": 16}, "--config.mesh.fsdp=16"),
        ((15, 2), {"mesh.data": 4, "mesh.fsdp": 4}, "--config.mesh.fsdp=16 --config.mesh.data=1"),
        ((1, 19), {"train.remat": True, "mesh.fsdp": 4, "train.batch_size": 12}, "batch_size=4"),
        ((1, 30), {"train.remat": True, "train.batch_size": 64}, "batch_size=16"),
        ((1, 30), {"train.remat": True, "train.batch_size": 64}, "accumulate=4 for as many"),
        ((1, 19), {"train.remat": True, "mesh.fsdp": 16, "train.batch_size": 16},
         "--config.mesh.context=2 --config.mesh.fsdp=8 --config.train.batch_size=8"),
        ((1, 19), {"train.remat": True, "train.batch_size": 1}, "a larger machine, with"),
        ((17, 2), {"mesh.fsdp": 16}, "a larger machine: the parameters"),
    ],
)  # fmt: skip
def test_the_first_thing_to_change(sizes, settings, change):
    """Of a step of so many GiB of arguments and temporaries on a chip that has 16."""
    values = defaults()
    for key, value in settings.items():
        group, name = key.split(".")
        values[group][name] = value
    values.train.batch_size = settings.get("train.batch_size", 16)
    memory = Memory(arguments=sizes[0] * GIB, outputs=0, temporaries=sizes[1] * GIB, code=0)
    assert change in suggest(freeze(values), memory, 16 * GIB)


def test_the_longest_of_three_binds():
    machine = Machine("v5e:2x2", CHIPS["v5e"], 4)
    chip = machine.chip
    made = StepPlan(
        machine,
        Memory(arguments=GIB, outputs=0, temporaries=GIB, code=0),
        Counter({("decoder", "products"): int(4 * chip.flops * 2)}),  # two seconds of four chips
        model_flops=4 * chip.flops * 1.5,
        traffic=[Traffic("all-gather", "fsdp", 1, chip.link_rate * 0.5)],
        tokens=800,
        mesh={"fsdp": 4},
    )
    assert made.fits
    assert made.seconds["products"] == pytest.approx(2)
    assert made.seconds["links"] == pytest.approx(0.5)
    assert made.bound == "products"
    assert made.mfu == pytest.approx(0.75)
    assert made.tokens_per_second == pytest.approx(100)


@pytest.mark.parametrize("name", ["v5e:4x4", "v5p:4x4x8", "h200:8"])
def test_machines_by_name(name):
    assert Machine.named(name).count == {"v5e:4x4": 16, "v5p:4x4x8": 128, "h200:8": 8}[name]
