import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vjax import config as config_lib
from vjax import main
from vjax.config import Config, ConfigError, defaults, freeze
from vjax.console import UserError

pytestmark = pytest.mark.smoke

TASKS = ("counting", "consistency", "localization", "disorder", "rearrangement")


def changed(**groups) -> dict:
    """Default config as a dict, with {"group": {"field": value}} changed."""
    values = config_lib.to_dict(Config())
    for name, change in groups.items():
        values[name] = values[name] | change if isinstance(change, dict) else change
    return values


# ---- freeze --------------------------------------------------------------------------------------


def test_defaults_freeze_to_the_default_config():
    assert freeze(defaults()) == Config()


def test_json_gives_the_config_back():
    config = freeze(changed(optim={"groups": ("a.*=0.1",), "lr": 3e-4}, seed=7))
    assert freeze(json.loads(config_lib.to_json(config))) == config


def test_absent_keys_take_their_default():
    assert freeze({"lora": {"rank": 4}}) == freeze(changed(lora={"rank": 4}))


def test_a_frozen_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        freeze(defaults()).lora.rank = 3


def test_an_integer_will_do_for_a_number():
    lr = freeze(changed(optim={"lr": 1})).optim.lr
    assert lr == 1.0 and type(lr) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora": {"rnk": 3}}, "unknown config key lora.rnk; did you mean lora.rank?"),
        ({"lore": {"rank": 3}}, "unknown config key lore; did you mean lora?"),
        ({"fragments": {"weights": {"ordering": 1.0}}}, "config key fragments.weights.ordering;"),
        ({"lora": 3}, "config key lora is a group of fields, got 3"),
        ({"lora": {"rank": "8"}}, "config key lora.rank takes an integer, got '8'"),
        ({"lora": {"rank": 8.0}}, "config key lora.rank takes an integer, got 8.0"),
        ({"lora": {"rank": True}}, "config key lora.rank takes an integer, got True"),
        ({"train": {"remat": 1}}, "config key train.remat takes true or false, got 1"),
        ({"optim": {"lr": "1e-4"}}, "config key optim.lr takes a number, got '1e-4'"),
        ({"optim": {"groups": "a=1"}}, "config key optim.groups takes a tuple of str, got 'a=1'"),
        ({"optim": {"groups": [1]}}, "config key optim.groups[0] takes a string, got 1"),
        ({"optim": {"groups": ["tower"]}}, "optim.groups[0] is REGEX=MULTIPLIER"),
        ({"optim": {"groups": ["(=1"]}}, "optim.groups[0]: '(' is no regular expression"),
        ({"lora": {"rank": 0}}, "config key lora.rank must be at least 1; got 0"),
        ({"optim": {"lr": 0.0}}, "config key optim.lr must be more than 0; got 0.0"),
        ({"optim": {"lr": float("nan")}}, "config key optim.lr must be more than 0; got nan"),
        ({"data": {"procedural_share": 1.5}}, "must be at least 0 and at most 1; got 1.5"),
        ({"model": {"dtype": "f16"}}, "model.dtype is one of float32, bfloat16; got 'f16'"),
        ({"lora": {"targets": "(q"}}, "config key lora.targets: '(q' is no regular expression"),
        ({"data": {"source": "folder"}}, "--config.data.clips=DIR"),
        ({"data": {"source": "procedural", "clips": "x"}}, "contradict"),
        ({"data": {"window_min_s": 5.0}}, "data.window_min_s=5 is more than data.window_max_s=4"),
        ({"fragments": {"weights": dict.fromkeys(TASKS, 0)}}, "all five are 0"),
    ],
)
def test_a_wrong_config_is_an_error_that_names_the_key(values, message):
    with pytest.raises(ConfigError) as error:
        freeze(values)
    assert message in str(error.value)


def test_a_folder_of_clips_makes_the_source_folder():
    assert freeze(changed(data={"clips": "my/videos"})).data.source == "folder"


def test_samplers_are_those_that_fragments_knows():
    from vjax.fragments.config import SAMPLERS

    for sampler in SAMPLERS:
        assert freeze(changed(fragments={"sampler": sampler})).fragments.sampler == sampler


def test_diff_lists_dotted_keys():
    one, two = Config(), freeze(changed(seed=3, lora={"rank": 2}))
    assert config_lib.diff(one, one) == []
    assert config_lib.diff(one, two) == ["seed", "lora.rank"]
    assert "lora.rank: 16 -> 2" in config_lib.describe_diff(one, two)


def test_workdir_carries_a_hash_of_the_overrides_alone():
    base = freeze(changed(name="sf2t", preset="tiny"))
    over = freeze(changed(name="sf2t", preset="tiny", lora={"rank": 2}))
    other = freeze(changed(name="sf2t", preset="tiny", lora={"rank": 3}))
    digest = config_lib.override_hash(over, base)
    assert str(config_lib.workdir(base, base)) == "runs/sf2t-tiny"
    assert str(config_lib.workdir(over, base)) == f"runs/sf2t-tiny-{digest}"
    assert len(digest) == 8 and int(digest, 16) >= 0
    assert digest != config_lib.override_hash(other, base)


# ---- the command line ----------------------------------------------------------------------------

EXPERIMENT = """
from vjax.config import defaults
def get_config(arg="tiny"):
    config = defaults()
    config.lora.rank = {"tiny": 8, "big": 64}[arg]
    return config
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "jobs", lambda: ["eval", "train"])
    return lambda *args: main.parse(["vjax", *args])


def test_the_file_and_its_preset_give_the_config_and_the_workdir(toy):
    run = toy("--config=toy.py:big")
    assert (run.config.lora.rank, run.config.name, run.config.preset) == (64, "toy", "big")
    assert (run.job, str(run.workdir), run.fresh) == ("train", "runs/toy-big", False)


def test_overrides_reach_the_config(toy):
    run = toy(
        "--config=toy.py",
        "--config.lora.rank=32",
        "--config.train.remat",
        "--noconfig.checkpoint.save_on_exit",
        "--config.optim.groups=('a=0.1','b=0')",
        "--config.optim.lr=1",
    )
    assert run.config.lora.rank == 32
    assert run.config.train.remat and not run.config.checkpoint.save_on_exit
    assert run.config.optim.groups == ("a=0.1", "b=0")
    assert run.workdir.name.startswith("toy-default-")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--config.lora.rnk=3"], "unknown config key lora.rnk; did you mean lora.rank?"),
        (["--config.rank=3"], "unknown config key rank; did you mean lora.rank?"),
        (["--config.lora.rank=abc"], "config key lora.rank takes an integer, got 'abc'"),
        (["--config.optim.lr=fast"], "config key optim.lr takes a number, got 'fast'"),
        (["--config.train.remat=maybe"], "config key train.remat takes true or false, got 'maybe'"),
        (["--config.lora=3"], "config key lora is a group; set one of lora.kind"),
        (["--config.lora.rank=0"], "config key lora.rank must be at least 1; got 0"),
        (["--confg.lora.rank=3"], "Unknown command line flag 'confg.lora.rank'"),
        (["--job=trian"], "there is no job 'trian'; jobs: eval, train"),
        (["lora.rank=3"], "unexpected argument 'lora.rank=3'"),
    ],
)
def test_a_wrong_flag_is_an_error_that_names_it(toy, args, message):
    with pytest.raises(UserError) as error:
        toy("--config=toy.py", *args)
    assert message in str(error.value)


def test_clips_on_the_command_line_make_the_source_a_folder(toy):
    Path("toy.py").write_text(
        EXPERIMENT.replace("return", "config.data.source='procedural';return")
    )
    assert toy("--config=toy.py", "--config.data.clips=mine").config.data.source == "folder"
    with pytest.raises(UserError, match="contradicts"):
        toy("--config=toy.py", "--config.data.clips=mine", "--config.data.source=procedural")


def test_a_missing_config_file_is_named(toy):
    with pytest.raises(UserError, match="there is no config file toi.py"):
        toy("--config=toi.py:tiny")


def test_a_preset_that_is_not_known_is_one_line():
    with pytest.raises(UserError) as error:
        main.parse(["vjax", "--config=experiments/sf2t.py:qwen2_vl"])
    said = "there is no preset 'qwen2_vl'; did you mean qwen2_vl_7b or qwen2_vl_2b or qwen2_vl_72b?"
    assert str(error.value) == said


def test_an_override_without_its_config_says_so(toy):
    with pytest.raises(UserError, match="--config.lora.rank=3: name the config that it overrides"):
        toy("--config.lora.rank=3", "--workdir=run")


def test_no_config_and_no_workdir_is_an_error(toy):
    with pytest.raises(UserError, match="pass --config=experiments/FILE.py"):
        toy()


def test_the_program_prints_one_line_and_exits_with_2(toy):
    config = f"--config={Path('toy.py').resolve()}"
    done = subprocess.run(
        [sys.executable, "-m", "vjax.main", config, "--config.lora.rnk=3"],
        cwd=Path(main.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "vjax: unknown config key lora.rnk; did you mean lora.rank?\n"


# ---- workdirs ------------------------------------------------------------------------------------


def test_a_workdir_alone_brings_its_config_back(toy):
    run = toy("--config=toy.py:big", "--config.seed=5")
    main.open_workdir(run)
    again = toy("--job=eval", f"--workdir={run.workdir}")
    assert again == dataclasses.replace(run, job="eval")


def test_overrides_without_a_config_change_that_of_the_run(toy):
    run = toy(
        "--config=toy.py:big", "--config.train.questions=rows", "--config.data.mixture=('a',)"
    )
    main.open_workdir(run)
    again = toy("--config.eval.control=blank", "--job=eval", f"--workdir={run.workdir}")
    control = dataclasses.replace(run.config.eval, control="blank")
    assert again.config == dataclasses.replace(run.config, eval=control)
    assert again.workdir == run.workdir
    assert not main.open_workdir(again)


def test_a_needle_is_hidden_in_other_clips_than_those_of_the_run(toy, monkeypatch):
    monkeypatch.setattr(main, "jobs", lambda: ["needle", "train"])
    main.open_workdir(toy("--config=toy.py", "--workdir=here", "--config.data.source=procedural"))
    again = toy("--job=needle", "--workdir=here", "--config.data.clips=mine")
    assert (again.config.data.source, again.config.data.clips) == ("folder", "mine")
    assert not main.open_workdir(again)


def test_a_job_that_empties_nothing_does_not_advise_fresh(toy):
    main.open_workdir(toy("--config=toy.py", "--workdir=here"))
    with pytest.raises(UserError, match="lora.rank: 8 -> 9") as error:
        main.open_workdir(toy("--job=eval", "--workdir=here", "--config.lora.rank=9", "--fresh"))
    assert "--fresh" not in str(error.value)


def test_a_workdir_without_a_run_is_an_error(toy):
    with pytest.raises(UserError, match="runs/none holds no run"):
        toy("--workdir=runs/none")


def test_the_same_config_opens_its_workdir_again(toy):
    run = toy("--config=toy.py")
    main.open_workdir(run)
    (run.workdir / "metrics.jsonl").write_text("kept")
    main.open_workdir(run)
    assert (run.workdir / "metrics.jsonl").read_text() == "kept"


def test_another_config_in_the_workdir_is_an_error_that_shows_the_difference(toy):
    main.open_workdir(toy("--config=toy.py", "--workdir=here"))
    with pytest.raises(UserError) as error:
        main.open_workdir(toy("--config=toy.py", "--workdir=here", "--config.lora.rank=9"))
    assert "lora.rank: 8 -> 9" in str(error.value)


def test_fresh_starts_over_with_the_new_config(toy):
    main.open_workdir(toy("--config=toy.py", "--workdir=here"))
    run = toy("--config=toy.py", "--workdir=here", "--config.lora.rank=9", "--fresh")
    (run.workdir / "metrics.jsonl").write_text("old")
    main.open_workdir(run)
    assert [path.name for path in run.workdir.iterdir()] == ["config.json"]


def test_a_workdir_that_is_a_file_is_an_error(toy, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="--workdir=run is a file"):
        main.open_workdir(toy("--config=toy.py", "--workdir=run"))


def test_of_a_tuple_that_is_given_twice_the_last_counts(toy):
    flags = ("--config.needle.lengths=(2,4)", "--config.needle.lengths=(8,)")
    assert toy("--config=toy.py", *flags).config.needle.lengths == (8,)


def test_fresh_deletes_no_folder_that_is_no_run(toy, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("x")
    with pytest.raises(UserError, match="--fresh would delete photos"):
        main.open_workdir(toy("--config=toy.py", "--workdir=photos", "--fresh"))
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_a_damaged_config_file_is_named(toy):
    run = toy("--config=toy.py")
    main.open_workdir(run)
    (run.workdir / "config.json").write_text('{"lora": ')
    with pytest.raises(UserError, match="runs/toy-default/config.json"):
        main.open_workdir(run)


# ---- data.mixture --------------------------------------------------------------------------------


def test_a_source_of_the_mixture_is_a_path_or_a_dict():
    config = freeze(
        changed(train={"questions": "rows"}, data={"mixture": ("a.json", {"path": "b", "cap": 3})})
    )
    assert [(rows.path, rows.cap) for rows in config.data.mixture] == [("a.json", 0), ("b", 3)]
    assert freeze(json.loads(config_lib.to_json(config))) == config


def test_the_mixture_comes_from_the_command_line():
    run = main.parse(
        ["vjax", "--config=experiments/sft.py",
         "--config.data.mixture=('a.json', {'path': 'b.jsonl', 'weight': 2, 'fraction': 0.1})"]
    )  # fmt: skip
    one, two = run.config.data.mixture
    assert (one.path, two.path, two.weight, two.fraction) == ("a.json", "b.jsonl", 2.0, 0.1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"weight": 2.0}, r"config key data.mixture\[0\].path must be given"),
        ({"path": "a", "wieght": 2.0}, r"did you mean data.mixture\[0\].weight\?"),
        ({"path": "a", "fraction": 2.0}, r"data.mixture\[0\].fraction must be"),
        (7, r"config key data.mixture\[0\] is a group of fields, got 7"),
    ],
)
def test_a_bad_source_of_the_mixture(source, message):
    with pytest.raises(ConfigError, match=message):
        freeze(changed(train={"questions": "rows"}, data={"mixture": (source,)}))


def test_a_mixture_that_nothing_trains_on():
    with pytest.raises(ConfigError, match="is trained on with --config.train.questions=rows"):
        freeze(changed(data={"mixture": ("a.json",)}))


def test_a_source_that_stands_alone_is_shown_as_a_tuple():
    with pytest.raises(
        ConfigError, match=r"data.mixture takes a tuple: write \(\{'path': 'a'\},\)"
    ):
        freeze(changed(train={"questions": "rows"}, data={"mixture": {"path": "a"}}))
