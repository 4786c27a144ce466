"""The config door: a ConfigDict goes in, frozen and checked dataclasses come out.

An experiment file gives `get_config(arg)`, which starts from `defaults()` and changes what it is
about; the command line may override any field (`--config.lora.rank=32`). `freeze` then checks every
name, type and value by `vjax.schema`, so that the code behind it reads plain attributes and checks
nothing.
"""

import dataclasses
import difflib
import hashlib
import json
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from vjax.console import UserError
from vjax.schema import EXPORTS, Config, Range, Regex, Rows


class ConfigError(UserError):
    """A config key or value that is wrong; the message names it and what would be right."""


# ---- in and out ----------------------------------------------------------------------------------


def defaults() -> ConfigDict:
    """Every field at its default, locked: what `get_config` starts from.

    Assigning an unknown key to it raises AttributeError, another type TypeError.
    """
    return ConfigDict(to_dict(Config()), convert_dict=True).lock()


def freeze(values: Mapping | ConfigDict) -> Config:
    """Checks a config and freezes it; keys that are absent take their default.

    Setting data.clips makes a data.source of `sample` `folder`; as a flag, any (vjax.main).

    Raises:
        ConfigError: an unknown key (with the nearest known one), a value of another type, out of
            its range or not among its choices, a regex that does not compile, or values that
            contradict each other.
    """
    config = _freeze(Config, dict(values), "")
    if config.data.clips and config.data.source == "sample":
        data = dataclasses.replace(config.data, source="folder")
        config = dataclasses.replace(config, data=data)
    _check_together(config)
    return config


def read(spec: str) -> Config:
    """The config that an experiment file gives: FILE.py[:PRESET]."""
    return named(ConfigFileFlagParser("config").parse(spec), spec)


def named(values: ConfigDict, spec: str) -> Config:
    """Freezes what FILE.py[:PRESET] gave, and names it by that where it has no name."""
    config = freeze(values)
    file, _, preset = spec.partition(":")
    return dataclasses.replace(
        config, name=config.name or Path(file).stem, preset=config.preset or preset or "default"
    )


def saved(workdir: Path) -> Config | None:
    """The config of the run in `workdir`; None if there is no config.json.

    Raises:
        UserError: a config.json that is damaged.
    """
    file = workdir / "config.json"
    if not file.is_file():
        return None
    try:
        return freeze(json.loads(file.read_text()))
    except (json.JSONDecodeError, ConfigError) as error:
        raise UserError(f"{file}: {error}; start over: --config=FILE.py --fresh") from None


def no_preset(arg: str, presets: Iterable[str]) -> ConfigError:
    """For an experiment file to raise, which knows these."""
    presets = list(presets)
    like = difflib.get_close_matches(arg, presets, n=3, cutoff=0.5)
    known = f"did you mean {' or '.join(like)}?" if like else f"there are {', '.join(presets)}"
    return ConfigError(f"there is no preset {arg!r}; {known}")


def to_dict(config: Config) -> dict[str, Any]:
    """Plain nested dict."""
    return dataclasses.asdict(config)


def to_json(config: Config) -> str:
    """JSON text, indented; `freeze(json.loads(text))` gives the config back."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def flatten(values: Mapping, prefix: str = "") -> dict[str, Any]:
    """{"lora": {"rank": 8}} -> {"lora.rank": 8}."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


KEYS = tuple(flatten(to_dict(Config())))
GROUPS = tuple(dict.fromkeys(key.rpartition(".")[0] for key in KEYS if "." in key))


def diff(a: Config, b: Config) -> list[str]:
    """Dotted keys whose values differ, in the order of the fields."""
    one, two = flatten(to_dict(a)), flatten(to_dict(b))
    return [key for key in KEYS if one[key] != two[key]]


def describe_diff(a: Config, b: Config, keys: Sequence[str] | None = None) -> str:
    """One indented line per key that differs: `lora.rank: 8 -> 16`; of `keys` only, if given."""
    one, two = flatten(to_dict(a)), flatten(to_dict(b))
    shown = diff(a, b) if keys is None else keys
    return "\n".join(f"  {key}: {one[key]!r} -> {two[key]!r}" for key in shown)


def override_hash(config: Config, base: Config) -> str:
    """8 hex digits (blake2b) of what differs from `base`; "" when nothing does."""
    flat = flatten(to_dict(config))
    changed = {key: flat[key] for key in diff(config, base)}
    text = json.dumps(changed, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest() if changed else ""


def workdir(config: Config, base: Config, job: str = "train") -> Path:
    """`runs/NAME-PRESET`, with `-HASH8` of the overrides where there are any.

    How a run is judged later does not make it another run.
    """
    if job != "needle_rows":  # whose rows are made of these
        config = dataclasses.replace(config, needle=base.needle)
    if job != "train":
        config = dataclasses.replace(config, eval=base.eval)
    parts = (config.name, config.preset, override_hash(config, base))
    return Path("runs") / "-".join(part for part in parts if part)


def cache_root() -> Path:
    """`$XDG_CACHE_HOME/vjax`: clips, weights, compiled programs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vjax"


def check_key(key: str):
    """Raises ConfigError unless `key` ("lora.rank") names a field."""
    if key in KEYS:
        return
    fields = [k for k in KEYS if k.startswith(key + ".")]
    if fields:
        raise ConfigError(f"config key {key} is a group; set one of {', '.join(fields)}")
    raise ConfigError(f"unknown config key {key}; did you mean {nearest(key)}?")


def nearest(key: str) -> str:
    """The known key or group most like `key`, by the whole name and by its last part."""

    def likeness(known: str) -> float:
        whole = difflib.SequenceMatcher(None, key, known).ratio()
        last = difflib.SequenceMatcher(None, key.split(".")[-1], known.split(".")[-1]).ratio()
        return whole + last

    return max((*KEYS, *GROUPS), key=likeness)


def check_value(key: str, value: Any):
    """Raises ConfigError unless `value` suits the field named by the dotted key."""
    *groups, name = key.split(".")
    cls = Config
    for group in groups:
        cls = typing.get_type_hints(cls)[group]
    _value(typing.get_type_hints(cls, include_extras=True)[name], value, key)


# ---- checks --------------------------------------------------------------------------------------


def _freeze(cls: type, values: Mapping, prefix: str):
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in values:
        if key not in hints:
            inside = difflib.get_close_matches(key, hints, n=1) if "[" in prefix else []
            raise ConfigError(
                f"unknown config key {prefix}{key}; did you mean "
                f"{prefix + inside[0] if inside else nearest(f'{prefix}{key}')}?"
            )
    made = {key: _value(hints[key], value, prefix + key) for key, value in values.items()}
    for one in dataclasses.fields(cls):
        if one.name not in made and one.default is one.default_factory is dataclasses.MISSING:
            raise ConfigError(f"config key {prefix}{one.name} must be given")
    return cls(**made)


def _value(hint: Any, value: Any, key: str):
    """`value` as the type `hint` asks for, or ConfigError."""
    if hint is Rows and isinstance(value, str):
        value = {"path": value}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping | ConfigDict):
            raise ConfigError(f"config key {key} is a group of fields, got {value!r}")
        return _freeze(hint, dict(value), key + ".")
    rules: tuple = ()
    if typing.get_origin(hint) is Annotated:
        hint, *rules = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"config key {key} is one of {', '.join(choices)}; got {value!r}")
        return value
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        if isinstance(value, Mapping | ConfigDict):
            raise ConfigError(f"config key {key} takes a tuple: write ({dict(value)!r},)")
        if not isinstance(value, list | tuple):
            raise ConfigError(f"config key {key} takes a tuple of {item.__name__}, got {value!r}")
        return tuple(_value(item, v, f"{key}[{i}]") for i, v in enumerate(value))
    whole = hint is float and isinstance(value, int) and not isinstance(value, bool)
    if whole:
        value = float(value)
    if type(value) is not hint:
        raise ConfigError(f"config key {key} takes {_TYPES[hint]}, got {value!r}")
    for rule in rules:
        if isinstance(rule, Range) and value not in rule:
            raise ConfigError(f"config key {key} must be {rule}; got {value}")
        if rule is Regex:
            _compile(key, value)
    return value


_TYPES = types.MappingProxyType(
    {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
)


def _compile(key: str, pattern: str):
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"config key {key}: {pattern!r} is no regular expression: {error}"
        ) from None


def _check_together(config: Config):
    data = config.data
    if data.source == "folder" and not data.clips:
        raise ConfigError("data.source=folder needs a folder of videos: --config.data.clips=DIR")
    if data.source == "procedural" and data.clips:
        raise ConfigError(
            f"data.source=procedural contradicts data.clips={data.clips!r}: drop one, or set "
            "data.source=folder"
        )
    if data.window_min_s > data.window_max_s:
        raise ConfigError(
            f"data.window_min_s={data.window_min_s:g} is more than "
            f"data.window_max_s={data.window_max_s:g}"
        )
    if odd := [name for name in config.export.format if name not in EXPORTS]:
        raise ConfigError(f"export.format: {odd[0]!r} is none of {', '.join(EXPORTS)}")
    needle = config.needle
    if not needle.lengths or min(needle.lengths) < 1:
        raise ConfigError(f"needle.lengths are numbers of frames, got {needle.lengths}")
    if not needle.depths or not all(0 <= depth <= 1 for depth in needle.depths):
        raise ConfigError(f"needle.depths are from 0 to 1, got {needle.depths}")
    if data.mixture and config.train.questions != "rows":
        raise ConfigError("data.mixture is trained on with --config.train.questions=rows")
    if config.model.vision_cache and not config.model.tower_batch:
        raise ConfigError(
            "model.vision_cache needs parts of one size, which compute the same bits for a picture "
            "in any batch: set --config.model.tower_batch=8"
        )
    if not any(dataclasses.asdict(config.fragments.weights).values()):
        raise ConfigError("fragments.weights: all five are 0; leave at least one task")
    for i, group in enumerate(config.optim.groups):
        pattern, equals, multiplier = group.rpartition("=")
        _compile(f"optim.groups[{i}]", pattern)
        try:
            good = equals and float(multiplier) >= 0
        except ValueError:
            good = False
        if not good:
            raise ConfigError(
                f"config key optim.groups[{i}] is REGEX=MULTIPLIER (tower/.*=0.1); got {group!r}"
            )
