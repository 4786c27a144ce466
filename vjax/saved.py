"""The config of an earlier run as an experiment file: --config=vjax/saved.py:WORKDIR.

vjax.main puts it in for a command line of --workdir and overrides alone.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vjax import config


def get_config(workdir: str) -> ConfigDict:
    """Its values, locked; a workdir without a run is an error of the caller."""
    values = config.to_dict(config.saved(Path(workdir)))
    return ConfigDict(values, convert_dict=True).lock()
