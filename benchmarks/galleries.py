"""Time, memory and recall of galleries of all kinds, on made features.

Each is filled in one process and searched in another. Interrupted, it goes on where it was when
called again with the same --out. Example:
``python -m benchmarks.galleries --counts 100000 1000000 --out work_dirs/galleries.json``
"""

import argparse
import json
import sys
from pathlib import Path

KINDS = ('exact', 'approximate', 'large', 'database exact', 'database approximate')
HEADER = (
    'images', 'gallery', 'adding', 'index', 'memory', 'disk', 'opening', 'memory', 'a query',
    'recall@10', '1 of 32: a query', 'recall@10',
)  # fmt: skip
NOTES = """\
Made features, {width} wide, float32: {looks} looks, people of 2 to 30 images; {queries} queries,
one at a time; {machine}; faiss {faiss}, pymilvus {pymilvus}, milvus-lite {milvus}. `adding` and
`index` are the time for all images, `memory` the largest resident set above what the process had
before, once while filling, once while opening and searching; `opening` goes up to the first
answer. A query: median and, in brackets, 95 % of them take less. `1 of 32`: two of 16 cameras, a
quarter of the time."""


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='python -m benchmarks.galleries', description=__doc__.split('\n')[0])
    parser.add_argument('--counts', nargs='+', type=int, default=[100_000], metavar='N')
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=KINDS, metavar='KIND')
    parser.add_argument('--width', type=int, default=512, help='of the features (512)')
    parser.add_argument('--queries', type=int, default=200, help='(200)')
    parser.add_argument('--threads', type=int, default=2, help='(2)')
    parser.add_argument('--dir', default='work_dirs/galleries', help='for the galleries')
    parser.add_argument('--keep', action='store_true', help='leave the galleries there')
    parser.add_argument('--out', help='.json file for the measurements; those in it are kept')
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Measure what is not measured yet, and print the table."""
    from benchmarks.benchmark_reid import read_earlier
    from benchmarks.measure.arguments import check_out, check_positive
    from benchmarks.measure.galleries import remove
    from effvit_mm.utils.files import check_writable, write_text

    check_positive(args, 'counts', 'width', 'queries', 'threads')
    check_out(args.out, '.json')
    check_writable(args.dir, f'--dir {args.dir}')
    settings = {'queries': args.queries, 'threads': args.threads, 'width': args.width}
    path = None if args.out is None else Path(args.out)
    measured = read_earlier(path, settings)
    for count in args.counts:
        for kind in args.kinds:
            name = f'{count} {kind}'
            if name not in measured:
                measured[name] = measure(args, kind, count)
                if path is not None:
                    content = {'settings': settings, 'measurements': measured}
                    write_text(path, json.dumps(content, indent=1))
    if not args.keep and not any(Path(args.dir).iterdir()):
        remove(args.dir)
    print(f'{table(args, measured)}\n{notes(args)}')


def measure(args: argparse.Namespace, kind: str, count: int) -> dict:
    """Fill and search a gallery, each in a process of its own."""
    from benchmarks.measure.galleries import ask, fill, place_of, remove
    from benchmarks.measure.isolation import run_isolated

    arguments = (args.dir, kind, count, args.queries, args.threads, args.width)
    try:
        filled = run_isolated(fill, *arguments).result
        truth = filled.pop('truth')
        return {**filled, **run_isolated(ask, *arguments, truth).result}
    finally:
        if not args.keep:
            remove(place_of(args.dir, kind, count))


def table(args: argparse.Namespace, measured: dict[str, dict]) -> str:
    """A row for each number of images and kind of gallery."""
    from benchmarks.measure.isolation import GB
    from benchmarks.measure.report import markdown_table

    rows = []
    for count in args.counts:
        for kind in args.kinds:
            m = measured[f'{count} {kind}']
            row = [f'{count:,}', kind, f'{m["adding"]:.0f} s', f'{m["building"]:.0f} s']
            row += [f'{m["filling_peak"] / GB:.2f} GB', f'{m["disk"] / GB:.2f} GB']
            row += [f'{m["opening"]:.1f} s', f'{m["searching_peak"] / GB:.2f} GB']
            for name in ('all', 'narrow'):
                median, worst = (1000 * m[f'{name}_{part}'] for part in ('median', 'worst'))
                row += [f'{median:.1f} ({worst:.1f}) ms', f'{m[f"{name}_recall"]:.4f}']
            rows.append(row)
    return markdown_table(HEADER, rows)


def notes(args: argparse.Namespace) -> str:
    """What the table was measured on."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from benchmarks.measure.galleries import LOOKS
    from benchmarks.measure.report import describe_machine

    def found(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return '(none)'

    torch.set_num_threads(args.threads)
    return NOTES.format(
        width=args.width,
        looks=LOOKS,
        queries=args.queries,
        machine=describe_machine(),
        faiss=found('faiss-cpu'),
        pymilvus=found('pymilvus'),
        milvus=found('milvus-lite'),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
