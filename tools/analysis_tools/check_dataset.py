#!/usr/bin/env python
"""Find the faults of data before training, and what training and evaluation do with each.

Annotation files are COCO- or VOC-style; of a config, class folders and sets of persons are looked
at, too.

Exit code 0: nothing that breaks a training or an evaluation; 1: something that does; 2: the command
cannot be run.

Examples: ``python tools/analysis_tools/check_dataset.py CONFIG --read-images --out report.md``,
``python tools/analysis_tools/check_dataset.py annotations/train.json --images images --masks``,
``python tools/analysis_tools/check_dataset.py 'yolo/data.yaml#train'``
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options

    parser = Parser(prog='check_dataset.py', description=__doc__.split('\n')[0])
    parser.add_argument(
        'source',
        metavar='CONFIG|JSON|YAML',
        help='a config, an annotation file, or data.yaml#train of YOLO',
    )
    parser.add_argument('--images', help='with JSON: folder of the images')
    parser.add_argument('--classes', nargs='+', help='with JSON: classes; default: all of it')
    parser.add_argument('--masks', action='store_true', help='with JSON: masks are needed too')
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=('train', 'val', 'test'),
        default=['train', 'val'],
        help='with CONFIG: which loaders; default: train val',
    )
    parser.add_argument('--read-images', action='store_true', help='decode every image')
    parser.add_argument('--first', type=int, default=5, metavar='N', help='faults shown of a kind')
    parser.add_argument('--out', help='write all of it to this .json or .md file')
    add_cfg_options(parser)
    return parser


def find_sources(args: argparse.Namespace, session) -> tuple[dict, dict, dict]:
    """COCO-style sets by name; reports of others by loader; the config."""
    from effvit_mm.errors import ConfigError, DataError
    from effvit_mm.openmm.datasets.coco_check import CocoSource
    from effvit_mm.openmm.datasets.yolo_format import yolo_split

    yolo = yolo_split(args.source)
    if yolo or args.source.endswith('.json'):
        images = Path(args.images) if args.images else None
        if yolo and images is None:
            images = Path(yolo[0]).parent
        if images is not None and not images.is_dir():
            raise DataError(f'--images {images}: no such folder')
        if args.read_images and images is None:
            raise ConfigError('--read-images: --images is needed, the folder of the images')
        classes = tuple(args.classes) if args.classes else None
        source = CocoSource(Path(args.source), images, classes, args.masks)
        # It may be for training or for evaluation: what either would refuse is a fault.
        source = replace(source, judged=('segm',) if args.masks else ('bbox',))
        return {args.source: source}, {}, {}
    if args.images or args.classes or args.masks:
        raise ConfigError('--images, --classes and --masks go with an annotation file, no config')
    return _sources_of_config(args, session)


def _sources_of_config(args: argparse.Namespace, session) -> tuple[dict, dict, dict]:
    from mmengine.registry import DefaultScope

    from effvit_mm.errors import ConfigError
    from effvit_mm.openmm.config.loading import load_config
    from effvit_mm.openmm.data_checks.detection import judged_sets
    from effvit_mm.openmm.data_checks.folders import check_folders

    cfg = session.cfg = load_config(args.source, args.cfg_options)
    found, folders = {}, {}
    allow_empty = bool((cfg.get('data_checks') or {}).get('allow_empty_classes'))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for split in args.splits:
            key = f'{split}_dataloader'
            loader = cfg.get(key) or {}
            found.update(judged_sets(loader, key, cfg.get(f'{split}_evaluator')))
            folders[key] = list(check_folders(loader, key, args.read_images, allow_empty))
    if not found and not any(folders.values()):
        raise ConfigError(
            f'config {args.source}: no COCO- or VOC-style data set in '
            f'{" and ".join(args.splits)}, no class folders and no persons (sets in a remote '
            'store are not looked at)'
        )
    return found, folders, cfg


def work(args: argparse.Namespace, session) -> int:
    """Print what was found; 1 where something breaks a training or an evaluation."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.openmm.config.data_root import how_to_find
    from effvit_mm.openmm.datasets.coco_check import check_coco
    from effvit_mm.openmm.datasets.coco_report import format_report, to_dict, to_markdown
    from effvit_mm.utils.files import check_writable, written_atomically

    if args.first < 1:
        raise ConfigError(f'--first {args.first}: 1 or more is needed')
    if args.out is not None:
        if not args.out.endswith(('.json', '.md')):
            raise ConfigError(f'--out {args.out}: a name ending in .json or .md is needed')
        check_writable(Path(args.out).parent, f'--out {args.out}')
    reports = {}
    sources, folders, cfg = find_sources(args, session)
    if args.out is not None and not sources:
        raise ConfigError(f'--out {args.out}: it takes COCO-style sets, of which there is none')
    others = [report for reports in folders.values() for report in reports]
    for report in others:
        print(f'{report.line}{how_to_find(session.cfg, report.error)}')
    for name, source in sources.items():
        reports[name] = check_coco(source, args.read_images, cfg.get('data_checks'))
        print(format_report(reports[name], name, args.first) + '\n')
    counts = {name: len(report.classes) for name, report in reports.items()}
    wrong = [*wrong_counts(cfg, counts), *wrong_judges(cfg, folders)]
    for line in (*wrong, *remarks(cfg, reports, folders), *not_looked_at(cfg, args.splits)):
        print(line)
    if not args.read_images:
        print('images were not opened; those that are broken: --read-images')
    if args.out is not None:
        as_json = args.out.endswith('.json')
        text = json.dumps(to_dict(reports), indent=1) if as_json else to_markdown(reports)
        with written_atomically(Path(args.out)) as temporary:
            Path(temporary).write_text(text + '\n', encoding='utf-8')
        print(f'wrote {args.out}')
    faulty = any(report.fatal() for report in reports.values())
    return int(faulty or bool(wrong) or any(report.breaks for report in others))


def wrong_counts(cfg: Mapping, counts: dict[str, int]) -> list[str]:
    """A line for each head of another number of classes than a set has."""
    from effvit_mm.openmm.data_checks.class_count import wrong_heads

    wrong = {}
    for name, count in counts.items():
        for key, classes in wrong_heads(cfg.get('model') or {}, count).items():
            wrong[key] = f'{key}={classes}, but {name} has {count} classes: set {key}={count}'
    return list(wrong.values())


def wrong_judges(cfg: Mapping, folders: dict) -> list[str]:
    """A line for each metric of another number of classes than the set that it judges."""
    from effvit_mm.openmm.data_checks.metrics import wrong_metrics

    lines = []
    for key, found in folders.items():
        judge = key.replace('dataloader', 'evaluator')
        for classes in {report.classes for report in found if report.classes}:
            lines += wrong_metrics(cfg.get(judge), judge, classes)
    return lines


def remarks(cfg: Mapping, reports: dict, folders: dict) -> list[str]:
    """What passes but is to be known: images judged by that were trained on, odd metrics."""
    from effvit_mm.openmm.data_checks.metrics import odd_metrics
    from effvit_mm.openmm.data_checks.shared_images import describe_shared

    lines, files = [], {}
    for key, found in folders.items():
        judge = key.replace('dataloader', 'evaluator')
        lines += odd_metrics(cfg.get(judge), judge) if any(r.single for r in found) else []
        files[key] = [file for report in found for file in report.files]
    for name, report in reports.items():
        key, part, _ = name.partition('_dataloader')
        if part and report.source.image_folder is not None:
            files.setdefault(key + part, []).extend(report.files)
    train = files.pop('train_dataloader', [])
    shared = (describe_shared(train, own, key) for key, own in files.items())
    return [*lines, *filter(None, shared)]


def not_looked_at(cfg: Mapping, splits: Sequence[str]) -> list[str]:
    """A line of a test that is made of another set than the validation, which alone was seen."""
    test, val = ((cfg.get(f'{split}_dataloader') or {}).get('dataset') for split in ('test', 'val'))
    if test is None or test == val or 'test' in splits:
        return []
    return [
        'test_dataloader.dataset is another set than val_dataloader.dataset and was not looked at: '
        'give --splits test to see it'
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
