import subprocess
import sys

import pytest


@pytest.mark.smoke
def test_evals_import_without_jax():
    code = (
        "import sys, vjax.evals.report, vjax.evals.summary\n"
        "heavy = {'jax', 'flax', 'torch', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
