"""Shared set-up of the tests."""

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

# One thread: small tensors gain nothing from two, and two threads that wait for each other slow
# down fiftyfold as soon as another process wants a core.
os.environ['OMP_NUM_THREADS'] = '1'
os.environ.setdefault('MPLBACKEND', 'Agg')

# Drawn examples are the same in each run.
settings.register_profile(
    'seeded',
    max_examples=500,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile('seeded')


@pytest.fixture(autouse=True, scope='module')
def _young_heap():
    """Spare collectors what was there before: mmengine calls one for each data set it builds."""
    gc.collect()
    gc.freeze()
