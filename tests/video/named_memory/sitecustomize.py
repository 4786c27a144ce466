"""First on PYTHONPATH: names this process's shared memory after what the environment says."""

import os
from multiprocessing import shared_memory

shared_memory._SHM_NAME_PREFIX = os.environ["VJAX_TEST_MEMORY"]
