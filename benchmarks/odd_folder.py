"""A large folder with broken and odd images through the command lines, killed and gone on with.

One of ten images is cut short, empty, text, of 16 bits, CMYK, turned, 1 x 1, 20,000 x 3 ... Each
command runs once undisturbed, and once killed by SIGKILL half-way and gone on with by ``--resume``;
the files must be the same to the last byte, and each image has a result or a line that names it.
Example: ``python -m benchmarks.odd_folder --images 2000 --classifier CONFIG CHECKPOINT``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

HEADER = ('command', 'images', 'odd', 'results', 'named', 's', 's, killed and resumed', 'same file')


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='python -m benchmarks.odd_folder', description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=int, default=2000, help='in the folder (2000)')
    parser.add_argument('--batch-size', type=int, default=8, help='images of a batch (8)')
    for kind in ('classifier', 'detector', 'reid'):
        parser.add_argument(
            f'--{kind}', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='of such a model'
        )
    return parser


def commands(
    args: argparse.Namespace, folder: Path, out: Path
) -> Iterator[tuple[str, list, str, str]]:
    """Name, arguments, the file that is compared, and the one that grows."""
    batch = ['--batch-size', args.batch_size, '--device', 'cpu']
    if args.classifier:
        table = str(out / 'classes.csv')
        yield 'classify', [*args.classifier, folder, '--out', table, *batch], table, table
    if args.detector:
        table = str(out / 'found.jsonl')
        yield 'detect', [*args.detector, folder, '--out', table, *batch], table, table
    if args.reid:
        model = ['--config', args.reid[0], '--checkpoint', args.reid[1]]
        gallery = str(out / 'gallery')
        arguments = ['index', folder, *model, '--out', gallery, *batch]
        yield 'reid_search', arguments, gallery, f'{gallery}.partial.jsonl'


def compare(args: argparse.Namespace, folder: Path, odd: int, place: Path) -> Iterator[list[str]]:
    """A row for each command.

    Raises:
        DataError: An image has neither a result nor a line, or a file differs.
    """
    from benchmarks.measure.odd_images import run_tool
    from effvit_mm.errors import DataError

    for way in ('whole', 'killed'):
        (place / way).mkdir()
    pairs = (list(commands(args, folder, place / way)) for way in ('whole', 'killed'))
    for (tool, arguments, whole, _), (_, again, resumed, grows) in zip(*pairs, strict=True):
        undisturbed = run_tool(tool, arguments)
        killed = run_tool(tool, again, killed_at=args.images // 2, watched=grows)
        rest = run_tool(tool, [*again, '--resume'])
        if killed.code >= 0 or undisturbed.code not in (0, 2) or rest.code != undisturbed.code:
            raise DataError(f'{tool} ends by {undisturbed.code}, {killed.code}, {rest.code}')
        named = set(undisturbed.named)
        results = count_results(whole)
        if results + len(named) != args.images or {*killed.named, *rest.named} != named:
            raise DataError(f'{tool}: {results} results and {len(named)} named, not {args.images}')
        if Path(whole).read_bytes() != Path(resumed).read_bytes():
            raise DataError(f'{tool}: {whole} is another file after a kill')
        counts = args.images, odd, results, len(named)
        seconds = undisturbed.seconds, killed.seconds + rest.seconds
        yield [tool, *map(str, counts), *(f'{value:.1f}' for value in seconds), 'yes']


def count_results(path: str) -> int:
    """In a table, a file of lines or a gallery."""
    from benchmarks.measure.odd_images import count_lines
    from effvit_mm.reid.search import Gallery

    suffix = Path(path).suffix
    if not suffix:
        return len(Gallery.load(path))
    return count_lines(Path(path)) - (suffix == '.csv')


def work(args: argparse.Namespace, session) -> None:
    """Rows as they come."""
    from benchmarks.measure.arguments import check_positive
    from benchmarks.measure.odd_images import make_folder
    from benchmarks.measure.report import describe_machine
    from effvit_mm.errors import ConfigError

    check_positive(args, 'images', 'batch_size')
    if not (args.classifier or args.detector or args.reid):
        raise ConfigError('--classifier, --detector or --reid is needed')
    print(f'{describe_machine()}\n')
    print(f'| {" | ".join(HEADER)} |\n| {" | ".join(["---"] * len(HEADER))} |', flush=True)
    with TemporaryDirectory() as place:
        odd = make_folder(Path(place) / 'images', args.images)
        for row in compare(args, Path(place) / 'images', len(odd), Path(place)):
            print(f'| {" | ".join(row)} |', flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
