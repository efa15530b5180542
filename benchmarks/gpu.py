"""Measure networks on a GPU: latency, images a second, peak memory, share of the card's own peak.

Examples are in --help; what was measured for the documentation is in docs/gpu.md.
"""

import argparse
import copy
import gc
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

LIBRARIES = (
    'torchvision:resnet50', 'timm:resnet50', 'timm:deit_tiny_patch16_224',
    'timm:deit_small_patch16_224', 'timm:swin_tiny_patch4_window7_224', 'timm:levit_192',
    'timm:crossvit_9_240', 'timm:mobilenetv4_conv_medium',
)  # fmt: skip
OURS = (
    'pslt_tiny', 'pslt_base', 'castling_deit_tiny', 'castling_levit_192', 'castling_mvitv2_tiny',
    'crossvit_9', 'lightweight_vit_tiny', 'deit_tiny', 'levit_192', 'mvitv2_tiny',
)  # fmt: skip
BACKBONES = ('torchvision:resnet50', *OURS)  # also at a detector's size
EAGER, CHANNELS_LAST, COMPILED = 'eager', 'channels-last', 'compiled'
FORMS = (('fp32', EAGER), ('bf16', EAGER), ('bf16', CHANNELS_LAST), ('bf16', COMPILED))
BATCHES, DETECTION = (1, 64, 256), (800, 1344)
SMALL = ('pslt_tiny', 'timm:test_vit')
HEADER = (
    'network', 'form', 'pixels', 'batch', 'ms', 'images/s', 'MiB', 'GMAC', 'TFLOP/s', 'share',
    'compiling',
)  # fmt: skip
EXAMPLES = """\
  python -m benchmarks.gpu --out work_dirs/gpu.json
  python -m benchmarks.gpu --only pslt_tiny --only timm:resnet50 --out work_dirs/gpu.json
  python -m benchmarks.gpu --device cpu --small --out work_dirs/cpu.json

Each row is in --out as soon as it is measured; the same command goes on behind those that are
there. fp32 is without TF32. Ours and LeViT of timm are in their deployed form. A multiply-add is
two operations: the share is that of the peak of matrix products in the same number format and run.
"""


class Job(NamedTuple):
    """A row to be measured.

    Attributes:
        model: As in :mod:`benchmarks.benchmark`: ``pslt_tiny``, ``timm:resnet50``.
        precision: ``'fp32'`` or ``'bf16'``, the latter by autocast.
        form: One of ``'eager'``, ``'channels-last'``, ``'compiled'``.
        size: Height and width in pixels; a detector's is a pass of the backbone for all its maps.
        batch: Images.
    """

    model: str
    precision: str
    form: str
    size: tuple[int, int]
    batch: int

    @property
    def key(self) -> str:
        height, width = self.size
        return f'{self.model} {self.precision} {self.form} {height}x{width} {self.batch}'


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(
        prog='python -m benchmarks.gpu',
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--device', default='cuda', help='cuda, or cpu to try the program (cuda)')
    add('--only', action='append', default=[], metavar='NAME', help='these networks; repeatable')
    add('--budget-seconds', type=float, metavar='N', help='begin no further row after N seconds')
    add('--repeats', type=int, default=20, help='timed passes of each row (20)')
    add('--seed', type=int, default=0, help='of weights and images (0)')
    add('--small', action='store_true', help='two small networks, uncompiled')
    add('--out', required=True, metavar='FILE', help='.json: rows, card and versions')
    return parser


def plan(args: argparse.Namespace) -> list[Job]:
    """The rows in the order in which they are measured: what many look at first."""
    from benchmarks.benchmark import usual_size
    from benchmarks.measure.networks import check_network
    from benchmarks.measure.workload import parse_size

    models = args.only or (SMALL if args.small else (*OURS, *LIBRARIES))
    for model in models:
        check_network(model)
    if args.small:
        return [Job(model, *form, (64, 64), 2) for form in FORMS[:-1] for model in models]
    sizes = {model: parse_size(usual_size(model)) for model in models}
    jobs = [Job(m, *form, sizes[m], n) for form in FORMS[:-1] for n in BATCHES for m in models]
    dense = [model for model in models if model in BACKBONES]
    jobs += [Job(model, *form, DETECTION, 1) for form in FORMS[:2] for model in dense]
    return jobs + [Job(m, *FORMS[-1], sizes[m], n) for n in BATCHES[1::-1] for m in models]


@lru_cache
def build(name: str, size: tuple[int, int], seed: int):
    """A network in evaluation and its deployed form, on the CPU; its multiply-adds an image."""
    import torch

    import effvit_mm
    from benchmarks.measure.loading import count_batch
    from benchmarks.measure.networks import build_network, deploy
    from benchmarks.measure.workload import OURS as OWN
    from benchmarks.measure.workload import kind_of

    torch.manual_seed(seed)
    if kind_of(name) == OWN and size == DETECTION:
        model = effvit_mm.create_model(name, features_only=True)
    else:
        model = build_network(name, size)
    model = deploy(name, model.eval()).requires_grad_(False)
    # Not of zeros: some networks drop tokens by what they see.
    return model, count_batch(model, torch.randn(1, 3, *size))


class Clock:
    """Milliseconds of calls: by CUDA's events, or by the processor's clock.

    Args:
        device: ``'cuda'`` or ``'cpu'``.
    """

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith('cuda')

    def time(self, call: Callable[[], object], repeats: int, warm_up: int = 5) -> float:
        """The median of ``repeats`` calls."""
        import torch

        for _ in range(warm_up):
            call()
        if not self.cuda:
            from benchmarks.measure.timing import seconds_of

            return 1e3 * median(seconds_of(call) for _ in range(repeats))
        torch.cuda.synchronize()
        pairs = []
        for _ in range(repeats):
            pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            pair[0].record()
            call()
            pair[1].record()
            pairs.append(pair)
        torch.cuda.synchronize()
        return median(start.elapsed_time(end) for start, end in pairs)


def card_peaks(args: argparse.Namespace) -> dict[str, float]:
    """TFLOP/s of large products of matrices in each number format, and GB/s of a copy."""
    import torch

    side, clock = (512 if args.small else 8192), Clock(args.device)
    peaks = {}
    for name, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
        a, b = (torch.randn(side, side, device=args.device, dtype=dtype) for _ in range(2))
        peaks[name] = 2 * side**3 / clock.time(partial(torch.mm, a, b), args.repeats) / 1e9
    source = torch.empty(side, side, 16, device=args.device)
    target = torch.empty_like(source)
    milliseconds = clock.time(partial(target.copy_, source), args.repeats)
    peaks['copy'] = 2 * source.nbytes / milliseconds / 1e6
    return peaks


def measure(job: Job, args: argparse.Namespace, peaks: dict[str, float]) -> dict:
    """A row; a failure is one too."""
    import torch

    model, adds = build(job.model, job.size, args.seed)
    layout = {'memory_format': torch.channels_last} if job.form == CHANNELS_LAST else {}
    model = copy.deepcopy(model).to(args.device, **layout)
    x = torch.randn(job.batch, 3, *job.size).to(args.device, **layout)
    cuda = args.device.startswith('cuda')
    called = torch.compile(model, dynamic=False) if job.form == COMPILED else model
    bf16 = job.precision == 'bf16'

    def call() -> None:
        with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, bf16):
            called(x)

    start = perf_counter()
    call()
    compiling = perf_counter() - start if job.form == COMPILED else None
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    milliseconds = Clock(args.device).time(call, args.repeats)
    rate = 2 * adds * job.batch / milliseconds / 1e9
    return {
        'milliseconds': milliseconds,
        'images_per_second': 1e3 * job.batch / milliseconds,
        'peak_bytes': torch.cuda.max_memory_allocated() if cuda else None,
        'multiply_adds': adds,
        'tflops': rate,
        'share_of_peak': rate / peaks[job.precision],
        'compiling_seconds': compiling,
    }


def describe(args: argparse.Namespace) -> dict:
    """Card, driver, versions."""
    import torch

    from benchmarks.benchmark import installed_versions
    from benchmarks.measure.report import describe_machine

    card = driver = None
    if args.device.startswith('cuda'):
        card = torch.cuda.get_device_name(args.device)
        query = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
        driver = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return {
        'card': card, 'driver': driver, 'cuda': torch.version.cuda, 'torch': torch.__version__,
        'python': platform.python_version(), 'machine': describe_machine(),
        'libraries': installed_versions(), 'seed': args.seed, 'repeats': args.repeats,
        'tf32': False,
    }  # fmt: skip


def cells(job: Job, row: dict) -> Iterator[str]:
    """A row of the table."""
    height, width = job.size
    yield from (job.model, f'{job.precision} {job.form}', f'{height} x {width}', str(job.batch))
    if 'error' in row:
        yield from (row['error'], *[''] * 6)
        return
    memory, compiling = row['peak_bytes'], row['compiling_seconds']
    yield f'{row["milliseconds"]:.2f}'
    yield f'{row["images_per_second"]:,.0f}'
    yield '' if memory is None else f'{memory / 2**20:,.0f}'
    yield f'{row["multiply_adds"] / 1e9:.2f}'
    yield f'{row["tflops"]:.1f}'
    yield f'{row["share_of_peak"]:.0%}'
    yield '' if compiling is None else f'{compiling:.0f} s'


def work(args: argparse.Namespace, session) -> int:
    """Measure what is not measured yet; 1 where a row failed."""
    import torch

    from benchmarks.measure.arguments import check_out, check_positive
    from benchmarks.measure.report import markdown_table
    from effvit_mm.openmm.trained import find_device
    from effvit_mm.utils.files import write_text

    check_positive(args, 'repeats', 'budget_seconds')
    check_out(args.out, '.json')
    find_device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    jobs, begin, out = plan(args), perf_counter(), Path(args.out)
    kept = json.loads(out.read_text()) if out.is_file() else {'rows': {}}
    kept['about'], kept['peaks'] = describe(args), card_peaks(args)
    for number, job in enumerate(jobs):
        if args.budget_seconds and perf_counter() - begin > args.budget_seconds:
            print(f'{len(jobs) - number} rows left: the budget is spent', file=sys.stderr)
            break
        if 'milliseconds' in kept['rows'].get(job.key, {}):
            continue
        print(f'{number + 1}/{len(jobs)} {job.key}', file=sys.stderr, flush=True)
        try:
            kept['rows'][job.key] = measure(job, args, kept['peaks'])
        except Exception as error:  # one network must not end the others
            if args.debug:
                raise
            kept['rows'][job.key] = {'error': f'{type(error).__name__}: {error}'.splitlines()[0]}
        write_text(out, json.dumps(kept, indent=1) + '\n')
        torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()  # without CUDA it does nothing
    done = [job for job in jobs if job.key in kept['rows']]
    print(markdown_table(HEADER, [list(cells(job, kept['rows'][job.key])) for job in done]))
    peaks = ', '.join(f'{name} {value:,.1f}' for name, value in kept['peaks'].items())
    print(f'{kept["about"]}\npeaks of this run, TFLOP/s and GB/s: {peaks}')
    return int(any('error' in kept['rows'][job.key] for job in done))


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
