"""What the check of a COCO-style set found, as a table, Markdown or JSON."""

from __future__ import annotations

import io

from .coco_check import KINDS, CocoReport, Finding

VERDICT = {True: 'breaks', False: 'passes'}


def format_report(report: CocoReport, name: str, first: int = 5) -> str:
    """A table for the console: each kind of fault, what it does, its first files."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(f'{name}: {summary(report)}', markup=False, highlight=False, soft_wrap=True)
    if not report.findings:
        console.print('no faults found')
        return console.file.getvalue().rstrip()
    table = Table(box=box.ROUNDED)
    for title, side in (('fault', 'left'), ('count', 'right'), ('', 'left'), ('training', 'left')):
        table.add_column(title, justify=side, overflow='fold')
    groups = report.by_kind()
    for kind, found in groups.items():
        verdict = 'breaks' if report.is_fatal(kind) else ''
        table.add_row(KINDS[kind].title, str(len(found)), verdict, report.effect(kind))
    console.print(table)
    for kind, found in groups.items():
        lines = '\n  '.join([f'{KINDS[kind].title}:', *_lines(found, first)])
        console.print(lines, markup=False, highlight=False, soft_wrap=True)
    return console.file.getvalue().rstrip()


def summary(report: CocoReport) -> str:
    """Counts of images, boxes and classes in a line."""
    boxes = ', '.join(f'{name} {report.boxes[name]}' for name in report.classes[:10])
    more = ', ...' if len(report.classes) > 10 else ''
    return (
        f'{report.num_images} images, {report.num_annotations} annotations; usable boxes: '
        f'{boxes}{more}'
    )


def _lines(found: list[Finding], first: int) -> list[str]:
    lines = [f'{finding.file}: {finding.detail}' for finding in found[:first]]
    if len(found) > first:
        lines.append(f'... and {len(found) - first} more')
    return lines


def to_markdown(reports: dict[str, CocoReport], first: int = 20) -> str:
    """The reports of several sets as a Markdown document."""
    parts = ['# Check of COCO-style data\n']
    for name, report in reports.items():
        parts.append(f'## {name}\n\n`{report.source.ann_file}`: {summary(report)}\n')
        if not report.findings:
            parts.append('No faults found.\n')
            continue
        parts.append('| fault | count | breaks | what training does |\n| --- | --: | --- | --- |')
        groups = report.by_kind()
        for kind, found in groups.items():
            verdict = 'yes' if report.is_fatal(kind) else 'no'
            title = KINDS[kind].title
            parts.append(f'| {title} | {len(found)} | {verdict} | {report.effect(kind)} |')
        for kind, found in groups.items():
            parts.append(f'\n### {KINDS[kind].title}\n')
            parts += [f'- {line}' for line in _lines(found, first)]
        parts.append('')
    return '\n'.join(parts)


def to_dict(reports: dict[str, CocoReport]) -> dict:
    """The reports of several sets with all findings, for JSON."""
    return {
        name: {
            'annotation_file': str(report.source.ann_file),
            'images': report.num_images,
            'annotations': report.num_annotations,
            'classes': list(report.classes),
            'usable_boxes': {name: report.boxes[name] for name in report.classes},
            'faults': [
                {
                    'kind': kind,
                    'title': KINDS[kind].title,
                    'verdict': VERDICT[report.is_fatal(kind)],
                    'training': report.effect(kind),
                    'count': len(found),
                    'found': [{'file': f.file, 'detail': f.detail} for f in found],
                }
                for kind, found in report.by_kind().items()
            ],
        }
        for name, report in reports.items()
    }
