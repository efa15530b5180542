"""What common corruptions of images cost a trained model: mPC and rPC.

Performance under corruption is a figure's mean over corruptions and severities (mPC), and that as a
share of the figure on clean images (rPC), as Michaelis et al., 2019, define them for detectors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from ...errors import ConfigError
from ...utils.files import write_text
from ..config.arguments import type_path
from ..config.extras import FIGURES
from ..config.preparing import is_reid
from ..datasets.corruption import COMMON, SEVERITIES, CommonCorruption
from .report import format_grid

CLEAN = 'clean'
NUMBERS = (int, float, np.number)


def add_corruption(cfg: Config) -> None:
    """Put :class:`CommonCorruption` into the test pipeline, without effect at first.

    A detector's images are corrupted as they are read, as in COCO-C. Others are corrupted at the
    size that the network sees, before they are packed, as in ImageNet-C.

    Raises:
        ConfigError: There is no such pipeline, or the package is missing.
    """
    if find_spec('imagecorruptions') is None:
        raise ConfigError(
            'common corruptions need the package imagecorruptions: pip install '
            'imagecorruptions-imaug'
        )
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    steps = [*(dataset.get('pipeline') or ())]
    loads = [i for i, step in enumerate(steps) if 'LoadImage' in str(type_path(step.get('type')))]
    if not loads:
        raise ConfigError(
            'test_dataloader.dataset.pipeline: a pipeline that loads images is needed, of one data '
            'set, to put corruptions in'
        )
    place = loads[0] + 1 if cfg.get('default_scope') == 'mmdet' else len(steps) - 1
    steps.insert(place, {'type': 'effvit_mm.CommonCorruption'})
    dataset.pipeline = steps
    cfg.test_dataloader.persistent_workers = False  # they would keep the corruption they began with


class CorruptedTests:
    """Tests of a runner's model on images that are corrupted in one way after the other.

    Args:
        runner: For a test whose pipeline :func:`add_corruption` has completed.
        images: Number of images, evenly spaced in the set; None: all.

    Raises:
        ConfigError: ``images`` does not go with the data set.
    """

    def __init__(self, runner, images: int | None = None) -> None:
        self.runner, self.loop = runner, runner.test_loop
        dataset = self.loop.dataloader.dataset
        if images is not None and images < len(dataset):
            self._take(dataset, images)
            dataset = self.loop.dataloader.dataset  # a copy
        self.size = len(dataset)
        steps = dataset.pipeline.transforms
        self.corruption = next(step for step in steps if isinstance(step, CommonCorruption))
        runner.call_hook('before_run')
        runner.load_or_resume()

    def _take(self, dataset: Any, images: int) -> None:
        if not isinstance(dataset, BaseDataset) or is_reid(self.runner.cfg):
            raise ConfigError(f'--images {images}: {type(dataset).__name__} is tested as a whole')
        chosen = np.linspace(0, len(dataset) - 1, images).round().astype(int).tolist()
        dataset.get_subset_(chosen)
        cfg = self.runner.cfg.test_dataloader
        self.loop.dataloader = self.runner.build_dataloader({**cfg, 'dataset': dataset})
        ids = [dataset.get_data_info(index).get('img_id') for index in range(images)]
        for metric in self.loop.evaluator.metrics:
            if hasattr(metric, 'img_ids'):  # COCO's: the others are not there to be found
                metric.img_ids = ids

    def __call__(self, name: str | None = None, severity: int = 1) -> dict[str, float]:
        """The evaluator's figures; without a name, those of clean images."""
        self.corruption.name, self.corruption.severity = name, severity
        found = self.loop.run()
        return {key: float(value) for key, value in found.items() if isinstance(value, NUMBERS)}


class RobustnessFile:
    """A JSON file of figures, written anew after each test.

    Args:
        path: The file.
        told: What the figures are of: config, checkpoint, images. Values of JSON.
        resume: Keep what the file has.

    Raises:
        ConfigError: The file to go on with is none, or of another model or other images.
    """

    def __init__(self, path: str | Path, told: Mapping[str, Any], resume: bool) -> None:
        self.path = Path(path)
        self.content: dict[str, Any] = {'of': dict(told), CLEAN: None, 'corruptions': {}}
        if not resume or not self.path.exists():
            return
        try:
            old = json.loads(self.path.read_text(encoding='utf-8'))
            differs = [key for key, value in told.items() if old['of'].get(key) != value]
            self.content |= {key: old[key] for key in (CLEAN, 'corruptions')}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f'--resume: {self.path} is no file of this program') from error
        if differs:
            key = differs[0]
            raise ConfigError(
                f'--resume: {self.path} has figures of {key} {old["of"].get(key)}, not of '
                f'{told[key]}'
            )

    def figures(self, name: str | None, severity: int) -> dict[str, float] | None:
        """Those that are there already."""
        if name is None:
            return self.content[CLEAN]
        return self.content['corruptions'].get(name, {}).get(str(severity))

    def add(self, name: str | None, severity: int, figures: dict[str, float]) -> None:
        """Keep figures, and write."""
        if name is None:
            self.content[CLEAN] = figures
        else:
            self.content['corruptions'].setdefault(name, {})[str(severity)] = figures
        self.write()

    def write(self, **summary: Any) -> None:
        """Write, with what is to be said at the end."""
        write_text(self.path, json.dumps(self.content | summary, indent=1) + '\n')


def measure(
    tests: Callable[[str | None, int], dict[str, float]],
    file: RobustnessFile,
    names: Sequence[str],
    severities: Sequence[int],
    say: Callable[[str], None] = print,
) -> None:
    """Test clean and under each corruption, whatever the file does not have yet."""
    cells = [(None, 0), *((name, severity) for name in names for severity in severities)]
    for number, (name, severity) in enumerate(cells, 1):
        if file.figures(name, severity) is None:
            file.add(name, severity, tests(name, max(severity, 1)))
            title = CLEAN if name is None else f'{name}, severity {severity}'
            say(f'{number} of {len(cells)}: {title} done')


def summarise(
    file: RobustnessFile, figure: str, names: Sequence[str], severities: Sequence[int]
) -> dict[str, Any]:
    """``figure``, ``clean``, ``mean`` of each corruption, ``mPC`` and ``rPC`` (NaN: clean is 0)."""
    clean = file.figures(None, 0)[figure]
    means = {
        name: float(np.mean([file.figures(name, severity)[figure] for severity in severities]))
        for name in names
    }
    whole = float(np.mean(list(means.values())))
    ratio = whole / clean if clean else math.nan
    return {'figure': figure, 'clean': clean, 'mean': means, 'mPC': whole, 'rPC': ratio}


def choose_figure(figures: Mapping[str, float], asked: str | None) -> str:
    """The figure that is summed up.

    Raises:
        ConfigError: There is none of this name, or none that is known to be the main one.
    """
    known = [asked] if asked is not None else list(FIGURES.values())
    found = next((name for name in known if name in figures), None)
    if found is None:
        named = '--figure' if asked is None else f'--figure {asked}'
        raise ConfigError(f'{named}: one of {", ".join(figures)} is needed')
    return found


def table(
    file: RobustnessFile, summary: Mapping[str, Any], severities: Sequence[int], title: str
) -> str:
    """A row for each corruption, a column for each severity; mPC and rPC below."""
    figure, clean = summary['figure'], summary['clean']
    digits = 3 if clean <= 1 else 1

    def cell(value: float) -> str:
        return f'{value:.{digits}f}'

    empty = [''] * (len(severities) - 1)
    rows = [(CLEAN, *([''] * len(severities)), cell(clean))]
    for name, mean in summary['mean'].items():
        found = (file.figures(name, severity)[figure] for severity in severities)
        rows.append((name, *map(cell, found), cell(mean)))
    rows.append(('mPC', '', *empty, cell(summary['mPC'])))
    rows.append(('rPC', '', *empty, f'{summary["rPC"]:.1%}'))
    headers = ('', *(f'severity {severity}' for severity in severities), 'mean')
    return format_grid(f'{title}: {figure}', headers, rows, (1, len(rows) - 2))


def checked_choice(
    names: Sequence[str] | None, severities: Sequence[int] | None
) -> tuple[list[str], list[int]]:
    """Corruptions and severities in their own order, each once.

    Raises:
        ConfigError: One is not known.
    """
    for flag, given, allowed in (
        ('--corruptions', names, COMMON), ('--severities', severities, SEVERITIES),
    ):  # fmt: skip
        if unknown := [value for value in given or () if value not in allowed]:
            raise ConfigError(f'{flag} {unknown[0]}: allowed are {", ".join(map(str, allowed))}')
    return (
        [name for name in COMMON if not names or name in names],
        [severity for severity in SEVERITIES if not severities or severity in severities],
    )


def digest(path: str | Path) -> str:
    """SHA-256 of a file, by which a checkpoint is known again; an address as it is."""
    if '://' in str(path):
        return str(path)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
