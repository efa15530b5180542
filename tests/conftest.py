"""Shared set-up of the tests."""

import os

# One thread: small tensors gain nothing from two, and two threads that wait for each other slow
# down fiftyfold as soon as another process wants a core.
os.environ['OMP_NUM_THREADS'] = '1'
os.environ.setdefault('MPLBACKEND', 'Agg')
