#!/usr/bin/env python
"""Test a model under the 15 common corruptions at five severities: mPC and rPC.

Example: ``python tools/analysis_tools/test_robustness.py CONFIG CHECKPOINT --out robustness.json``;
a killed run goes on with ``--resume``.
"""

import argparse
import sys
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_common_arguments

    parser = Parser(prog='test_robustness.py', description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config of a classifier, a detector or a re-ID model')
    parser.add_argument('checkpoint', help='its weights')
    add_common_arguments(parser)
    parser.add_argument('--out', required=True, help='.json file of all figures')
    parser.add_argument(
        '--resume', action='store_true', help='go on with what --out has of the same model'
    )
    parser.add_argument('--corruptions', nargs='+', metavar='NAME', help='only these; default: 15')
    parser.add_argument('--severities', nargs='+', type=int, metavar='N', help='only these of 1-5')
    parser.add_argument('--images', type=int, metavar='N', help='N images, evenly spaced (all)')
    parser.add_argument('--figure', metavar='NAME', help='what is summed up (mAP, or top-1)')
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Test whatever is missing, write, print the table."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.openmm.config.preparing import prepare_testing
    from effvit_mm.openmm.engine import robustness
    from effvit_mm.openmm.engine.runner import build_runner
    from effvit_mm.openmm.engine.work_dir import kept_work_dir
    from effvit_mm.utils.files import check_writable

    names, severities = robustness.checked_choice(args.corruptions, args.severities)
    if args.images is not None and args.images < 1:
        raise ConfigError(f'--images {args.images}: 1 or more is needed')
    out = Path(args.out)
    if out.suffix != '.json':
        raise ConfigError(f'--out {out}: a name ending in .json is needed')
    check_writable(out.parent, f'--out {out}')
    plain = {'out': None, 'rerank': False, 'show_dir': None, 'show_number': None, 'tta': False}
    cfg = session.cfg = prepare_testing(argparse.Namespace(**{**vars(args), **plain}))
    robustness.add_corruption(cfg)
    with kept_work_dir(session, alone=args.work_dir is not None):
        session.runner = build_runner(cfg)
        tests = robustness.CorruptedTests(session.runner, args.images)
        told = {
            'config': Path(args.config).name,
            'checkpoint': robustness.digest(args.checkpoint),
            'cfg_options': [str(option) for option in args.cfg_options],
            'images': tests.size,
        }
        file = robustness.RobustnessFile(out, told, args.resume)
        robustness.measure(tests, file, names, severities)
    figure = robustness.choose_figure(file.figures(None, 0), args.figure)
    summary = robustness.summarise(file, figure, names, severities)
    file.write(summary=summary)
    title = f'{Path(args.config).stem}, {tests.size} images'
    print(robustness.table(file, summary, severities, title))
    print(f'wrote {out}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
