"""Vector databases that run inside a process, on made features of 512: which serve as a gallery.

Needs, beside ``effvit-mm[gallery]``, the candidates that were not taken: ``pip install
qdrant-client qdrant-edge-py``. Example: ``python -m benchmarks.vector_databases --count 100000``
"""

import argparse
import shutil
import sys

HEADER = (
    'candidate', 'adding', 'index', 'memory', 'disk', 'a query', 'recall@10', '1 of 32: a query',
    'recall@10', 'killed: confirmed', 'there',
)  # fmt: skip


def make_parser() -> argparse.ArgumentParser:
    from benchmarks.measure.databases import CANDIDATES
    from effvit_mm.openmm.cli import Parser

    parser = Parser(
        prog='python -m benchmarks.vector_databases', description=__doc__.split('\n')[0]
    )
    parser.add_argument('--count', type=int, default=100_000, help='images (100000)')
    parser.add_argument('--queries', type=int, default=50, help='(50)')
    parser.add_argument(
        '--candidates', nargs='+', choices=CANDIDATES, default=list(CANDIDATES), metavar='NAME'
    )
    parser.add_argument('--dir', default='work_dirs/vector_databases', help='for their files')
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Measure one after the other, each in a process of its own."""
    from benchmarks.measure.arguments import check_positive
    from benchmarks.measure.databases import measure_candidate, measure_kill
    from benchmarks.measure.isolation import GB, run_isolated
    from benchmarks.measure.report import describe_machine, markdown_table
    from effvit_mm.utils.files import check_writable

    check_positive(args, 'count', 'queries')
    check_writable(args.dir, f'--dir {args.dir}')
    rows = []
    for name in args.candidates:
        folder = f'{args.dir}/candidate'
        shutil.rmtree(folder, ignore_errors=True)
        m = run_isolated(measure_candidate, name, folder, args.count, args.queries).result
        confirmed, there = run_isolated(measure_kill, name, folder).result
        shutil.rmtree(folder)
        row = [name, f'{m["adding"]:.0f} s', f'{m["building"]:.0f} s']
        row += [f'{m["memory"] / GB:.2f} GB', f'{m["disk"] / GB:.2f} GB']
        for kind in ('all', 'narrow'):
            row += [f'{1000 * m[kind]:.1f} ms', f'{m[f"{kind}_recall"]:.4f}']
        rows.append([*row, f'{confirmed:,}', f'{there:,}'])
        print(rows[-1], flush=True)
    print(f'\n{markdown_table(HEADER, rows)}\n{args.count:,} images; {describe_machine()}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
