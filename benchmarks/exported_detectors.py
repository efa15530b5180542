"""Trained detectors in PyTorch and from their exported files alone: COCO's figures and time.

Each test image goes through ``effvit_mm.Detector``, once of config and checkpoint, once of
each format's file; time is that from an array to boxes, image by image, in turns. Example:
``python -m benchmarks.exported_detectors --model CONFIG CHECKPOINT --shape 240 320``.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py

FILES = {'onnx': '.onnx', 'openvino': '.xml'}
HEADER = ('config', 'form', 'pixels', 'images', 'AP', 'AP50', 'mask AP', 'ms', 'ratio', 'MB')


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options, add_trust_checkpoint

    parser = Parser(
        prog='python -m benchmarks.exported_detectors', description=__doc__.split('\n')[0]
    )
    parser.add_argument(
        '--model',
        nargs=2,
        action='append',
        required=True,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='repeat for each model',
    )
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('H', 'W'), required=True, help='of the graphs'
    )
    parser.add_argument('--repeats', type=int, default=20, help='timed images (20)')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Rows of a model as they come."""
    from mmengine.logging import MMLogger

    from benchmarks.measure.arguments import check_positive
    from benchmarks.measure.report import describe_machine

    check_positive(args, 'repeats')
    MMLogger.get_current_instance().setLevel('WARNING')
    print(f'{describe_machine()}; medians of {args.repeats} images in turns\n')
    print(f'| {" | ".join(HEADER)} |\n| {" | ".join(["---"] * 3 + ["---:"] * 7)} |', flush=True)
    for config, checkpoint in args.model:
        with TemporaryDirectory() as folder:
            for row in rows(args, config, checkpoint, Path(folder)):
                print(f'| {" | ".join(row)} |', flush=True)


def rows(args: argparse.Namespace, config: str, checkpoint: str, folder: Path) -> list[list[str]]:
    """A model in PyTorch, and from each file."""
    from benchmarks.measure.timing import seconds_of, time_alternately
    from effvit_mm import Detector
    from effvit_mm.inference.export import load_network
    from effvit_mm.runtime import FORMATS
    from effvit_mm.utils.images import load_image

    size, options, trust = tuple(args.shape), args.cfg_options, args.trust_checkpoint
    settings = {'cfg_options': options, 'trust_checkpoint': trust}
    loaded = load_network(config, checkpoint, 'detector', options, trust, size)
    forms = {'eager': False, 'eager, padded as files': False, 'deployed': True}
    detectors = {
        form: (Detector(config, checkpoint, deploy=deploy, **settings), '-')
        for form, deploy in forms.items()
    }
    pad_as_files(detectors['eager, padded as files'][0], size)
    for kind, suffix in FILES.items():
        path = folder / f'detector_{kind}{suffix}'
        FORMATS[kind].write(loaded.network, path, size)
        total = sum(file.stat().st_size for file in folder.glob(f'{path.stem}.*'))
        detectors[kind] = Detector(path), f'{total / 1e6:.1f}'
    paths, annotations = test_images(loaded.cfg)
    arrays = [load_image(path) for path in list(paths.values())[: args.repeats]]
    timings = time_alternately(
        [pass_over(detector, arrays, seconds_of) for detector, _ in detectors.values()],
        len(arrays),
    )
    table = []
    for (kind, (detector, size_on_disk)), timing in zip(detectors.items(), timings, strict=True):
        figures = evaluate(detector, paths, annotations)
        seconds, ratio = timing.median, timing.median / timings[0].median
        pixels = 'as the pipeline' if size_on_disk == '-' else ' x '.join(map(str, size))
        cells = *figures, f'{1e3 * seconds:.1f}', f'{ratio:.2f}', size_on_disk
        table.append([f'`{Path(config).stem}`', kind, pixels, str(len(paths)), *cells])
    return table


def pad_as_files(inferencer, size: tuple[int, int]) -> None:
    """Let a detector of mmdet's pad to this size, not to the next 32: that alone moves AP."""
    from torch.nn import functional as F

    preprocessor = inferencer.network.model.data_preprocessor
    own = preprocessor.forward

    def forward(data, training=False):
        batch = own(data, training)
        height, width = batch['inputs'].shape[2:]
        right, bottom = max(size[1] - width, 0), max(size[0] - height, 0)
        fill = preprocessor.pad_value
        batch['inputs'] = F.pad(batch['inputs'], (0, right, 0, bottom), value=fill)
        shape = tuple(batch['inputs'].shape[2:])
        for sample in batch['data_samples']:
            sample.set_metainfo({'batch_input_shape': shape, 'pad_shape': shape})
        return batch

    preprocessor.forward = forward


def pass_over(detector, arrays: list, seconds_of):
    """A function that times one image after the other, over and over."""
    numbers = iter(range(sys.maxsize))

    def run() -> float:
        array = arrays[next(numbers) % len(arrays)]
        return seconds_of(lambda: detector(array, masks=True))

    return run


def test_images(cfg) -> tuple[dict[int, str], str]:
    """Files of the test set's images by their ids, and the annotations' file."""
    from mmengine.registry import DATASETS, DefaultScope

    from effvit_mm.openmm.trained import test_dataset

    with DefaultScope.overwrite_default_scope('mmdet'), redirect_stdout(StringIO()):
        dataset = DATASETS.build(dict(test_dataset(cfg)))
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    return {item['img_id']: item['img_path'] for item in items}, dataset.ann_file


def evaluate(detector, paths: dict[int, str], annotations: str) -> list[str]:
    """AP and AP50 of boxes, and AP of masks, in percent."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(StringIO()):  # pycocotools prints
        truth = COCO(annotations)
    categories = {entry['name']: entry['id'] for entry in truth.dataset['categories']}
    results = {'bbox': [], 'segm': []}
    for number, path in paths.items():
        (found,) = detector(path, score_thr=0.0, masks=True)
        for row in found.to_coco(number, categories):
            mask = row.pop('segmentation', None)
            results['bbox'].append(row)
            if mask is not None:
                rest = {key: value for key, value in row.items() if key != 'bbox'}
                results['segm'].append({**rest, 'segmentation': mask})
    cells = []
    for kind, counts in (('bbox', (0, 1)), ('segm', (0,))):
        if not results[kind]:
            cells += ['-'] * len(counts)
            continue
        with redirect_stdout(StringIO()):
            evaluation = COCOeval(truth, truth.loadRes(results[kind]), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        cells += [f'{100 * evaluation.stats[count]:.2f}' for count in counts]
    return cells


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
