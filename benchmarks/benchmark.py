"""Measure models side by side: latency, images a second, memory, multiply-adds, parameters.

Examples are in --help, and all that is measured for the documentation in docs/benchmark.md.
"""

import argparse
import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGES = (
    'timm', 'torchvision', 'torchreid', 'openvino', 'nncf', 'onnxruntime', 'onedl-mmdetection',
    'mmdet',
)  # fmt: skip
CONFIG_SIZE, USUAL_SIZE = '800x1333', '224'
BUSY = 0.5  # load average above which somebody else is at work
HELP = """\
Measure models side by side: latency, images a second, share of the machine's measured GEMM peak,
peak memory, multiply-adds and parameters.

MODEL is one of
  pslt_base                    a network of ours: effvit_mm.list_models() has the names
  timm:crossvit_9_240          a network of timm, also
  torchvision:resnet50         of torchvision and
  torchreid:osnet_x1_0         of torchreid
  configs/.../retinanet_x.py   a detector: from uint8 images to boxes, and its backbone alone
all with random weights. Behind @ stand the words of the form in which it is to run, joined by +;
without any it runs in eager mode, in float32, as it was trained, in evaluation mode:
{forms}
"""
EXAMPLES = """\
examples:
  one image and eight, and how much of ResNet-50's time they take:
    python -m benchmarks.benchmark pslt_base@deployed pslt_base@openvino{,+bf16} \\
        --baseline torchvision:resnet50 --batch-sizes 1 8 --threads 2 --out pslt.md
  how latency and memory grow, as pictures too:
    python -m benchmarks.benchmark castling_deit_tiny@deployed timm:deit_tiny_patch16_224 \\
        --sizes 224 512 1024 --out castling.json --pictures work_dirs/pictures
  detectors, in both forms:
    python -m benchmarks.benchmark configs/pslt/retinanet_pslt-tiny_fpn_1x_coco.py{,@deployed}
  training, beside the code of another commit:
    git worktree add /tmp/old d9c8cfe~1
    python -m benchmarks.benchmark pslt_tiny@training --before /tmp/old \\
        --baseline pslt_tiny@training+before --sizes 128 --batch-sizes 16

Models of one size and batch are timed alternately, each in a process of its own. A model that fails
is named below the table with its error, the others go on; the exit code is then 1. Interrupted, the
same command goes on behind the last size and batch that were finished, if it has --out.
"""


def make_parser() -> argparse.ArgumentParser:
    from benchmarks.measure.workload import FORMS
    from effvit_mm.openmm.cli import Parser, add_cfg_options

    forms = '\n'.join(f'  {word:<14}{what}' for word, what in FORMS.items())
    parser = Parser(
        prog='python -m benchmarks.benchmark',
        description=HELP.format(forms=forms),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('models', nargs='+', metavar='MODEL[@FORM]', help='what to measure, see above')
    add('--baseline', metavar='MODEL[@FORM]', help='measured too; gives columns of ratios to it')
    add(
        '--sizes', nargs='+', metavar='N|HxW',
        help="pixels; default: those of the model's printed accuracy, or 224; configs 800x1333",
    )  # fmt: skip
    add(
        '--batch-sizes', type=int, nargs='+', default=[1], metavar='N', help='images of a batch (1)'
    )
    add('--threads', type=int, help="of PyTorch and the runtimes; default: PyTorch's own choice")
    add('--repeats', type=int, default=20, help='timed passes of each (20)')
    add('--warm-up', type=int, default=2, help='passes of each before those (2)')
    add(
        '--checkpoints', nargs='+', default=[], metavar='MODEL=FILE',
        help='weights for networks of ours and configs',
    )  # fmt: skip
    add('--image', help='image to be shown, scaled to each size; default: noise')
    add('--cache', metavar='FOLDER', help='keep compiled files here, and use those that lie there')
    add('--before', metavar='FOLDER', help='another tree of this project, for the form before')
    add('--out', help='write table and notes to this .md file, or all of it to this .json file')
    add(
        '--pictures', metavar='FOLDER',
        help='draw accuracy over latency, latency over resolution, memory over tokens (.png)',
    )  # fmt: skip
    add_cfg_options(parser)
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Raise what is wrong with numbers and files before anything is built."""
    from benchmarks.measure.arguments import check_out, check_positive
    from effvit_mm.errors import ConfigError
    from effvit_mm.utils.files import check_writable
    from effvit_mm.utils.images import load_image

    check_positive(args, 'batch_sizes', 'threads', 'repeats')
    if args.warm_up < 0:
        raise ConfigError(f'--warm-up {args.warm_up}: 0 or more is needed')
    if args.image is not None:
        load_image(args.image)
    if args.cache is not None:
        check_writable(args.cache, f'--cache {args.cache}')
    if args.before is not None and not (Path(args.before) / 'effvit_mm').is_dir():
        raise ConfigError(f'--before {args.before}: there is no folder effvit_mm in it')
    check_out(args.out, '.json', '.md')
    if args.pictures is not None:
        check_writable(args.pictures, f'--pictures {args.pictures}')


def read_labels(args: argparse.Namespace) -> list[tuple[str, tuple[str, ...]]]:
    """Models and forms in the order of the table, each once, the baseline last if it is new."""
    from benchmarks.measure.networks import check_network
    from benchmarks.measure.workload import BEFORE, CONFIG, kind_of, parse_label
    from effvit_mm.errors import ConfigError

    texts = args.models + ([args.baseline] if args.baseline else [])
    labels = list(dict.fromkeys(map(parse_label, texts)))
    for model, form in labels:
        if kind_of(model) != CONFIG:
            check_network(model)
        elif not Path(model).is_file():
            raise ConfigError(f'config {model}: no such file')
        if BEFORE in form and args.before is None:
            raise ConfigError(f'{model}@{"+".join(form)}: --before FOLDER is needed')
        check_form(model, form)
    if args.before is not None and not any(BEFORE in form for _, form in labels):
        raise ConfigError(f'--before {args.before}: no model has the form before')
    return labels


def check_form(model: str, form: tuple[str, ...]) -> None:
    """Raise where the form's runtime is not installed, or lacks the precision."""
    from benchmarks.measure.workload import Workload
    from effvit_mm.errors import ConfigError, UserError
    from effvit_mm.runtime import check_runtime

    workload = Workload(model, form, (0, 0))
    if workload.runtime is not None:
        try:
            check_runtime(workload.runtime, workload.precision)
        except UserError as error:
            raise ConfigError(f'{workload.label}: {error}') from error


def read_checkpoints(args: argparse.Namespace, labels: list) -> dict[str, str]:
    """``{model: file}``."""
    from benchmarks.measure.workload import CONFIG, OURS, kind_of
    from effvit_mm.errors import ConfigError

    allowed = sorted({model for model, _ in labels if kind_of(model) in (OURS, CONFIG)})
    files = {}
    for text in args.checkpoints:
        model, _, file = text.partition('=')
        if model not in allowed:
            names = ', '.join(allowed) or 'none of these models'
            raise ConfigError(f'--checkpoints {text}: MODEL=FILE is needed; MODEL can be {names}')
        if not Path(file).is_file():
            raise ConfigError(f'--checkpoints {text}: no such file')
        files[model] = file
    return files


def make_groups(args: argparse.Namespace, cache: str) -> dict[str, list]:
    """Workloads that are timed together, by the name of their group; compiled files in a cache."""
    from benchmarks.measure.results import group_key
    from benchmarks.measure.workload import (
        CONFIG,
        Workload,
        kind_of,
        parse_size,
        read_detector_config,
    )

    labels = read_labels(args)
    checkpoints = read_checkpoints(args, labels)
    groups: dict[str, list] = {}
    for model, form in labels:
        config = None
        if kind_of(model) == CONFIG:
            config = read_detector_config(model, args.cfg_options)
        for size in map(parse_size, args.sizes or [usual_size(model)]):
            for batch_size in args.batch_sizes:
                workload = Workload(
                    model, form, size, batch_size, checkpoints.get(model), args.image, config, cache
                )
                groups.setdefault(group_key(size, batch_size), []).append(workload)
    return groups


def usual_size(model: str) -> str:
    """At which a model is measured where nothing else is asked for."""
    from benchmarks.measure.published import published_accuracy
    from benchmarks.measure.workload import CONFIG, kind_of

    if kind_of(model) == CONFIG:
        return CONFIG_SIZE
    accuracy = published_accuracy(model)
    return USUAL_SIZE if accuracy is None else str(accuracy.size)


def describe(args: argparse.Namespace) -> dict:
    """The circumstances, for the notes and for JSON."""
    from benchmarks.measure.report import describe_machine

    return {
        'machine': describe_machine(),
        'versions': ', '.join(installed_versions()),
        'repeats': args.repeats,
        'warm_up': args.warm_up,
        'weights': ', '.join(args.checkpoints) or 'random (detectors find next to nothing)',
        'image': args.image or 'noise',
    }


def installed_versions() -> list[str]:
    """Of the libraries that models come from."""
    texts = []
    for name in PACKAGES:
        try:
            texts.append(f'{name} {version(name)}')
        except PackageNotFoundError:
            continue
    return texts


def tell(line: str) -> None:
    """Show how far it is; standard output is for the table."""
    print(line, file=sys.stderr, flush=True)


def measure_all(args: argparse.Namespace, groups: dict[str, list], circumstances: dict):
    """Measure the groups that no earlier call has measured; gives the PartialResults of all."""
    import torch

    from benchmarks.measure.results import PartialResults, measure_group

    settings = {
        **circumstances,
        'before': args.before,
        'cfg_options': args.cfg_options,
        'models': {key: [one.label for one in workloads] for key, workloads in groups.items()},
    }
    results = PartialResults(args.out and Path(args.out), settings)
    if results.groups:
        tell(f'{results.path} has {", ".join(results.groups)} already: going on behind that')
    for key, workloads in groups.items():
        if key not in results.groups:
            threads = torch.get_num_threads()
            group = measure_group(
                workloads, threads, args.repeats, args.warm_up, args.before, tell, args.debug
            )
            results.keep(key, group)
    return results


def work(args: argparse.Namespace, session, call: str) -> int:
    """Measure, print, write and draw; 1 where a model failed."""
    import torch

    check_arguments(args)
    with TemporaryDirectory(prefix='effvit_mm_') as folder:
        groups = make_groups(args, args.cache or folder)
        if args.threads is not None:
            torch.set_num_threads(args.threads)
        circumstances = describe(args)
        load = os.getloadavg()[0]
        if load > BUSY:
            tell(f'warning: the load average is {load:.2f}: something else is at work here')
        results = measure_all(args, groups, circumstances)
    measured = {key: results.groups[key] for key in groups}
    report(args, measured, {**circumstances, 'load': f'{load:.2f}'}, call)
    results.remove()
    return int(any(group.failures for group in measured.values()))


def report(args: argparse.Namespace, groups: dict, circumstances: dict, call: str) -> None:
    """Print, write and draw what was measured."""
    from benchmarks.measure import benchmark_report
    from benchmarks.measure.workload import Workload, parse_label
    from effvit_mm.utils.files import write_text

    baseline = None
    if args.baseline:
        baseline = Workload(*parse_label(args.baseline), size=(0, 0)).label  # words in their order
    text = benchmark_report.markdown(groups, circumstances, baseline)
    print(text)
    if args.out is not None:
        if args.out.endswith('.json'):
            content = benchmark_report.as_json(groups, circumstances, baseline)
            text = json.dumps({'command': call, **content}, indent=1) + '\n'
        else:
            text = f'# Benchmark\n\nWritten by `{call}`.\n\n{text}'
        write_text(args.out, text)
        print(f'wrote {args.out}')
    if args.pictures is not None:
        rows = [row for group in groups.values() for row in group.rows]
        for path in benchmark_report.draw_pictures(rows, Path(args.pictures)):
            print(f'drew {path}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from benchmarks.measure.arguments import command_line
    from effvit_mm.openmm.cli import run_guarded

    call = command_line('benchmark', argv)
    return run_guarded(lambda args, session: work(args, session, call), make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
