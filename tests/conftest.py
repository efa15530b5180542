"""Shared set-up of the tests."""

import os

from hypothesis import HealthCheck, settings

# One thread: small tensors gain nothing from two, and two threads that wait for each other slow
# down fiftyfold as soon as another process wants a core.
os.environ['OMP_NUM_THREADS'] = '1'
os.environ.setdefault('MPLBACKEND', 'Agg')

# Drawn examples are the same in each run. `--hypothesis-profile=thorough` draws more of those that
# take long; those that do not are drawn by the hundred anyway.
SEEDED = {
    'derandomize': True,
    'deadline': None,
    'database': None,
    'suppress_health_check': list(HealthCheck),
}
settings.register_profile('seeded', max_examples=60, **SEEDED)
settings.register_profile('thorough', max_examples=500, **SEEDED)
settings.load_profile('seeded')
