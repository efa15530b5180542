"""Write the table of models, and what linear attention saves against softmax, in Markdown.

Example: ``OMP_NUM_THREADS=1 python -m benchmarks.model_table --out docs/model_table.md``;
``python -m benchmarks.model_table 'pslt*' --no-latency`` prints a part of it at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.measure.model_costs import Measured, Variant

SIZES = (224, 512)  # of the table of models
COMPARED_SIZES = (224, 384, 512, 896)
HOSTS = ('tiny', 'small', 'base')

MODELS_TEXT = """\
## Models

Multiply-adds of one image, with a head of 1,000 classes. The share of attention is that of the
mechanism: what lies between the projections to queries, keys and values and the projection of the
output (products of queries, keys and values; Castling-ViT's convolution of the values; MViTv2's
pooling and relative positions; CrossViT's cross-attention and PSLT's windows likewise). The share
of attention layers has these projections in it. Feature maps, norms, softmax and other steps
element by element are not counted. `castling_*` is counted as it is deployed, without the softmax
branch. What `lightweight_vit_*` costs depends on the tokens that are dropped: here with random
weights on an image of noise. CrossViT's published figures are at 240 and 408 pixels. Top-1 on
ImageNet-1k, in percent, is that of the sources: nothing was trained on ImageNet here.
"""

REDUCTION_TEXT = """\
## Reductions against softmax attention

DeiT with softmax attention against the same network with linear attention, on one image. "Saved" is
the share of DeiT's figure that falls away; where it is negative, the linear network costs more. The
mechanism is as above, of all twelve layers together.

"linear" is the linear part of e-attention alone, in all twelve layers, with its feature map: ReLU
costs least, cosFormer (the default) doubles the width of queries and keys. E-attention adds token
sampling in blocks 4 to 12, at as many points as there are patches or at the number given; "kept"
are the patch tokens left after the last block. That number depends on weights and image: here the
weights are random and the image is noise (seed 0 for both), a trained network keeps more or fewer.
The paper of e-attention claims reductions of 30 to 50 % for each of its two methods and of 60 to
70 % for both; its formulas were not available, so that these are figures of a reconstruction.
"""


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='python -m benchmarks.model_table', description=__doc__.split('\n')[0])
    parser.add_argument('pattern', nargs='?', default='*', help="models, e.g. 'pslt*' (all)")
    parser.add_argument('--out', type=Path, help='file to write; standard output without it')
    parser.add_argument('--no-latency', action='store_true', help='count only, measure no time')
    parser.add_argument('--repeats', type=int, default=5, help='timed passes of each model (5)')
    return parser


def percent(share: float) -> str:
    return f'{100 * share:.1f} %'


def giga(count: int) -> str:
    return f'{count / 1e9:.3f} G'


def model_rows(names: Sequence[str]) -> Iterator[list[str]]:
    """One row for each model: see the header in :func:`model_section`."""
    from benchmarks.measure.model_costs import Variant, measure
    from benchmarks.measure.published import PUBLISHED, published_size

    sources = {name: (top1, source) for source, t in PUBLISHED.items() for name, top1 in t.items()}
    for name in names:
        own_size = published_size(name)
        costs_at = {size: measure(Variant(name, name), size) for size in {*SIZES, own_size}}
        top1, source = sources.get(name, ('', ''))
        costs = [costs_at[size].cost for size in SIZES]
        yield [
            f'`{name}`',
            f'{costs_at[SIZES[0]].parameters:,}',
            f'{giga(costs_at[own_size].cost.model)} at {own_size}',
            *(giga(cost.model) for cost in costs),
            *(percent(cost.mechanism / cost.model) for cost in costs),
            *(percent(cost.layers / cost.model) for cost in costs),
            str(top1),
            source,
        ]


def model_section(names: Sequence[str]) -> str:
    from benchmarks.measure.report import markdown_table

    header = ['model', 'parameters', 'multiply-adds, published size']
    for label in ('multiply-adds', 'attention', 'attention layers'):
        header += [f'{label}, {size}' for size in SIZES]
    table = markdown_table([*header, 'top-1', 'source'], list(model_rows(names)))
    return f'{MODELS_TEXT}\n{table}'


def reduction_rows(variants: Sequence[Variant], networks: Sequence[Measured], size: int):
    """One row for each network; the first is the baseline."""
    base = networks[0]
    for variant, network in zip(variants, networks, strict=True):
        saved = network.saved(base)
        kept = '' if network.kept is None else f'{network.kept} of {(size // 16) ** 2}'
        row = [str(size), variant.label, kept]
        for share, count in (
            (saved.mechanism, network.cost.mechanism),
            (saved.model, network.cost.model),
        ):
            row += [giga(count), '' if network is base else percent(share)]
        if network.latency is not None:
            for own, other in zip(network.latency, base.latency, strict=True):
                row += [f'{1000 * own:.1f} ms', '' if network is base else percent(1 - own / other)]
        yield row


def reduction_section(names: Sequence[str], repeats: int) -> str:
    """Tables of the hosts that ``names`` has a linear network of; empty where it has none."""
    from benchmarks.measure.model_costs import compare, deit_variants
    from benchmarks.measure.report import describe_machine, markdown_table

    text = ''
    for arch in HOSTS:
        families = [f for f in ('lightweight_vit', 'castling_deit') if f'{f}_{arch}' in names]
        if not families:
            continue
        header = ['pixels', 'attention', 'kept', 'mechanism', 'saved', 'model', 'saved']
        if repeats:
            header += ['mechanism, time', 'saved', 'model, time', 'saved']
        rows: list[list[str]] = []
        for size in COMPARED_SIZES:
            print(f'deit_{arch} at {size} pixels', file=sys.stderr)
            variants = [v for f in ('deit', *families) for v in deit_variants(arch, size, f)]
            rows += reduction_rows(variants, compare(variants, size, repeats), size)
        text += f'\n### deit_{arch}\n\n{markdown_table(header, rows)}'
    if not text:
        return ''
    how = (
        f'\nTimes are medians of {repeats} passes after one to warm up, one image a batch, the '
        f'networks alternately, float32: {describe_machine()}.\n'
    )
    return f'\n{REDUCTION_TEXT}{how if repeats else ""}{text}'


def work(args: argparse.Namespace, session, call: str) -> None:
    """Print or write the tables."""
    import effvit_mm
    from effvit_mm.errors import ConfigError
    from effvit_mm.utils.files import check_writable, write_text

    names = effvit_mm.list_models(args.pattern)
    if not names:
        raise ConfigError(f'no model is called like {args.pattern!r}; see effvit_mm.list_models()')
    if args.repeats < 1:
        raise ConfigError(f'--repeats {args.repeats}: 1 or more is needed (--no-latency for none)')
    if args.out is not None:
        check_writable(args.out.parent, '--out')
    repeats = 0 if args.no_latency else args.repeats
    text = (
        f'# What the models cost\n\nWritten by `{call}`.\n\n'
        f'{model_section(names)}{reduction_section(names, repeats)}'
    )
    if args.out is None:
        print(text, end='')
    else:
        write_text(args.out, text)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from benchmarks.measure.arguments import command_line
    from effvit_mm.openmm.cli import run_guarded

    call = command_line('model_table', argv)
    return run_guarded(lambda args, session: work(args, session, call), make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
