"""Print multiply-adds and parameters of a config's model; no data set is needed.

Example: ``python tools/analysis_tools/get_flops.py configs/pslt/pslt-tiny_8xb128_in1k.py --shape
224 224``. Detectors are counted up to their neck's maps and head outputs (``_forward``).
"""

from __future__ import annotations

import argparse
import sys
import warnings

from mmengine import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import effvit_mm
from effvit_mm.analysis import count_parameters, flops_by_operator


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file, or the name of a model (pslt_tiny)')
    parser.add_argument(
        '--shape', type=int, nargs='+', default=[224], metavar='H W', help='input size, pixels'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


class _TensorMode(nn.Module):
    """An OpenMMLab model as a function of a batch of images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor):
        return self.model(x, mode='tensor')


def build_model(config: str, options: dict | None) -> nn.Module:
    """The model of a config file, or of our table of names, without weights."""
    if config in effvit_mm.list_models():
        return effvit_mm.create_model(config)
    cfg = Config.fromfile(config)
    if options:
        cfg.merge_from_dict(options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    return _TensorMode(MODELS.build(cfg.model))


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if len(args.shape) > 2 or min(args.shape) < 1:
        print(f'error: --shape {args.shape}: one or two positive numbers', file=sys.stderr)
        return 2
    height, width = args.shape[0], args.shape[-1]
    warnings.filterwarnings('ignore', module='mm.*')
    try:
        model = build_model(args.config, args.cfg_options)
        flops = flops_by_operator(model, (3, height, width))
    except (ValueError, KeyError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    table = Table(title=f'{args.config} at {height}x{width}')
    table.add_column('operator')
    table.add_column('multiply-adds', justify='right')
    for operator, count in flops.items():
        table.add_row(operator, f'{count / 1e9:.3f} G')
    table.add_section()
    table.add_row('all', f'{sum(flops.values()) / 1e9:.3f} G')
    table.add_row('parameters', f'{count_parameters(model) / 1e6:.3f} M')
    Console().print(table)
    return 0


if __name__ == '__main__':
    sys.exit(main())
