"""Shared set-up of the tests."""

import gc
import os
import sys
from contextlib import closing

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
NO_PAGE = 'the web page was not tested'  # in what test_app.py gives as a reason
NO_GPU = 'no CUDA device here: the tests marked gpu were left out'


def pytest_collection_modifyitems(config, items):
    """Tests marked ``gpu`` are not there where no GPU is."""
    marked = [item for item in items if item.get_closest_marker('gpu')]
    if marked:
        from devices import exact_float32, has_gpu

        if has_gpu():
            exact_float32()
        else:
            config.hook.pytest_deselected(items=marked)
            items[:] = [item for item in items if item not in set(marked)]


def pytest_terminal_summary(terminalreporter, config):
    if 'gpu' in config.option.markexpr:
        from devices import has_gpu

        if not has_gpu():
            terminalreporter.write_line(NO_GPU)
    reasons = {report.longrepr[-1] for report in terminalreporter.stats.get('skipped', [])}
    for reason in sorted(reason for reason in reasons if NO_PAGE in reason):
        terminalreporter.write_line(reason)


@pytest.fixture(scope='session')
def pythons():
    """New Pythons: they have PyTorch already, and nothing of OpenMMLab's or ours."""
    from forks import LIGHT, Forks

    with closing(Forks(*LIGHT)) as forks:
        yield forks


@pytest.fixture(scope='session')
def trainers():
    """Processes that have what a training loads."""
    from forks import TRAINING, Forks

    with closing(Forks(*TRAINING)) as forks:
        yield forks


@pytest.fixture(autouse=True, scope='session')
def _formatted_once():
    """mmengine has yapf lay out a run's config for its log, its file and each checkpoint."""
    if 'mmengine' in sys.modules:
        from formatting import remember_layouts

        remember_layouts()


@pytest.fixture(autouse=True, scope='module')
def _young_heap():
    """Spare collectors what was there before: mmengine calls one for each data set it builds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='module')
def _own_runs():
    """What runs of one file leave in mmengine, as the scope of names, is not there for the next."""
    yield
    if 'mmengine' in sys.modules:
        from trainer import forget_runs

        forget_runs()
