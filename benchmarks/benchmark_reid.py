"""Time and memory of re-ID evaluation and re-ranking, beside torchreid's Python functions.

Random clustered features of Market-1501's and MSMT17's sizes; each measurement in a process of its
own. Interrupted, it goes on where it was when called again with the same --out. Example:
``python -m benchmarks.benchmark_reid --out work_dirs/benchmark_reid.json``
"""

import argparse
import json
import sys
from pathlib import Path

WORKS = ('evaluation', 're-ranking')
HEADER = (
    'work', 'queries x gallery', 'time', 'memory', 'torchreid: time', 'memory', 'ratio',
    'difference',
)  # fmt: skip
NOTES = """\
Random clustered features, {width} wide, float32, {machine}. Each measurement ran in a process of
its own; memory is the largest resident set (10^9 bytes to the GB) above what was there with the
features. Ours goes from features to figures. torchreid's time is of its Python function alone,
on distances that are there already; its memory includes those. `~` marks a time that was
extrapolated from {most} queries, and the memory of these alone. The difference is the largest
between torchreid's figures (CMC and mAP; re-ranking: mAP) and ours."""


def make_parser() -> argparse.ArgumentParser:
    from benchmarks.measure.reid import SETS
    from effvit_mm.openmm.cli import Parser

    names = [size.name for size in SETS]
    parser = Parser(prog='python -m benchmarks.benchmark_reid', description=__doc__.split('\n')[0])
    parser.add_argument(
        '--sets', nargs='+', choices=names, default=names, metavar='SET', help=', '.join(names)
    )
    parser.add_argument('--work', nargs='+', choices=WORKS, default=WORKS, help='default: both')
    parser.add_argument(
        '--scale', type=float, default=1.0, help='share of the images and people (1)'
    )
    parser.add_argument('--threads', type=int, help="of PyTorch; default: PyTorch's own choice")
    parser.add_argument(
        '--torchreid-queries', type=int, default=500, metavar='N',
        help="of MSMT17, whose whole takes torchreid a quarter of an hour and 20 GB (500)",
    )  # fmt: skip
    parser.add_argument(
        '--without-torchreid', action='store_true', help='measure our own functions only'
    )
    parser.add_argument('--out', help='.json file for the measurements; those in it are kept')
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Raise what cannot be, before hours of work."""
    from benchmarks.measure.arguments import check_out, check_positive

    check_positive(args, 'scale', 'threads', 'torchreid_queries')
    check_out(args.out, '.json')


def plan(args: argparse.Namespace, threads: int) -> dict[str, tuple]:
    """Name of each measurement -> function and its arguments."""
    from benchmarks.measure import reid

    large = reid.SETS[-1].name
    planned = {}
    for size in (size for size in reid.SETS if size.name in args.sets):
        scaled = size.scaled(args.scale)
        most = args.torchreid_queries if size.name == large else scaled.queries
        if 'evaluation' in args.work:
            planned[f'evaluation {size.name}'] = (reid.measure_evaluation, scaled, threads)
            planned[f'torchreid evaluation {size.name}'] = (
                reid.measure_torchreid_evaluation, scaled, threads, most,
            )  # fmt: skip
        if 're-ranking' in args.work:
            planned[f're-ranking {size.name}'] = (reid.measure_reranking, scaled, threads)
            if size.name != large:  # torchreid's would take several matrices of 35 GB
                planned[f'torchreid re-ranking {size.name}'] = (
                    reid.measure_torchreid_reranking, scaled, threads,
                )  # fmt: skip
    if args.without_torchreid:
        planned = {k: v for k, v in planned.items() if not k.startswith('torchreid')}
    return planned


def read_earlier(path: Path | None, settings: dict) -> dict[str, dict]:
    """Measurements that an earlier call with the same settings has made."""
    from effvit_mm.errors import DataError

    if path is None or not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
        earlier, measured = content['settings'], content['measurements']
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'--out {path} is not a file of this tool') from error
    if earlier != settings:
        raise DataError(f'--out {path} was measured with {earlier}, not with {settings}')
    return measured


def table(planned: dict[str, tuple], measured: dict[str, dict]) -> str:
    """A row for each work and set."""
    from benchmarks.measure.isolation import GB
    from benchmarks.measure.report import markdown_table

    rows = []
    for name, (_, size, *_) in planned.items():
        if name.startswith('torchreid') or name not in measured:
            continue
        ours, theirs = measured[name], measured.get(f'torchreid {name}')
        row = [
            name, f'{size.queries:,} x {size.gallery:,}',
            f'{ours["seconds"]:.1f} s', f'{ours["peak"] / GB:.2f} GB',
        ]  # fmt: skip
        if theirs is None:
            rows.append([*row, '-', '-', '-', '-'])
            continue
        seconds = theirs['seconds'] * size.queries / theirs['queries']
        mark = '' if theirs['queries'] == size.queries else '~'
        row += [f'{mark}{seconds:.0f} s', f'{mark}{theirs["peak"] / GB:.2f} GB']
        rows.append([*row, f'{seconds / ours["seconds"]:.0f}', f'{theirs["difference"]:.0e}'])
    return markdown_table(HEADER, rows)


def work(args: argparse.Namespace, session) -> None:
    import torch

    from benchmarks.measure.isolation import run_isolated
    from benchmarks.measure.report import describe_machine
    from effvit_mm.utils.files import write_text

    check_arguments(args)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    settings = {
        'machine': describe_machine(),
        'scale': args.scale,
        'torchreid_queries': args.torchreid_queries,
    }
    out = Path(args.out) if args.out else None
    measured = read_earlier(out, settings)
    planned = plan(args, torch.get_num_threads())
    for name, (function, *arguments) in planned.items():
        if name not in measured:
            print(f'{name} ...', file=sys.stderr, flush=True)
            measured[name] = run_isolated(function, *arguments).result._asdict()
        if out is not None:
            content = {'settings': settings, 'measurements': measured}
            write_text(out, json.dumps(content, indent=1) + '\n')
    notes = {'width': arguments[0].width, 'most': args.torchreid_queries}
    print(table(planned, measured))
    print(NOTES.format(machine=settings['machine'], **notes))


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
