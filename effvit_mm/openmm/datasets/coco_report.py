"""What the check of a detection set found, as a table, Markdown or JSON."""

from __future__ import annotations

import io

from .coco_check import CocoReport
from .fault_kinds import KINDS


def format_report(report: CocoReport, name: str, first: int = 5) -> str:
    """A table for the console: each kind of fault, what it does, its first files."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=io.StringIO(), width=160, color_system=None)
    faults = faults_by_kind(report)
    lines = [f'{name}: {summary(report)}', 'no faults found']
    if faults:
        table = Table('fault', box=box.ROUNDED)
        table.add_column('count', justify='right')
        table.add_column('')
        table.add_column('training', overflow='fold')
        table.add_column('evaluation', overflow='fold')
        for fault in faults:
            verdict = 'breaks' if fault['verdict'] == 'breaks' else ''
            effects = fault['training'], fault['evaluation']
            table.add_row(fault['title'], str(fault['count']), verdict, *effects)
        console.print(table)
        lines[1] = console.file.getvalue().rstrip()
        for fault in faults:
            remedy = f' ({fault["remedy"]})' if fault['remedy'] else ''
            lines.append('\n  '.join([f'{fault["title"]}{remedy}:', *_first_lines(fault, first)]))
    return '\n'.join(lines)


def summary(report: CocoReport) -> str:
    """Counts of images, boxes and classes in a line."""
    boxes = [f'{name} {report.boxes[name]}' for name in report.classes]
    return (
        f'{report.num_images} images, {report.num_annotations} annotations; usable boxes: '
        f'{", ".join(boxes)}'
    )


def _first_lines(fault: dict, first: int) -> list[str]:
    lines = ['{file}: {detail}'.format(**place) for place in fault['found'][:first]]
    more = fault['count'] - len(lines)
    return lines + [f'... and {more} more'] * (more > 0)


def to_markdown(reports: dict[str, CocoReport], first: int = 20) -> str:
    """The reports of several sets as a Markdown document."""
    parts = ['# Check of detection data\n']
    for name, report in reports.items():
        parts.append(f'## {name}\n\n`{report.source.ann_file}`: {summary(report)}\n')
        faults = faults_by_kind(report)
        if not faults:
            parts.append('No faults found.\n')
            continue
        parts.append(
            '| fault | count | breaks | in training they | in evaluation they |\n'
            '| --- | --: | --- | --- | --- |'
        )
        for fault in faults:
            verdict = 'yes' if fault['verdict'] == 'breaks' else 'no'
            row = '| {title} | {count} | {} | {training} | {evaluation} |'
            parts.append(row.format(verdict, **fault))
        for fault in faults:
            lines = [f'- {line}' for line in _first_lines(fault, first)]
            parts += [f'\n### {fault["title"]}\n', *lines]
        parts.append('')
    return '\n'.join(parts)


def faults_by_kind(report: CocoReport) -> list[dict]:
    """Each kind of fault that was found: what it is, what it does, how many and where."""
    return [
        {
            'kind': kind,
            'title': KINDS[kind].title,
            'verdict': 'breaks' if report.is_fatal(kind) else 'passes',
            'training': report.training(kind),
            'evaluation': report.evaluation(kind),
            'remedy': report.remedy(kind),
            'count': len(found),
            'found': [{'file': f.file, 'detail': f.detail} for f in found],
        }
        for kind, found in report.by_kind().items()
    ]


def to_dict(reports: dict[str, CocoReport]) -> dict:
    """The reports of several sets with all findings, for JSON."""
    return {
        name: {
            'annotation_file': str(report.source.ann_file),
            'images': report.num_images,
            'annotations': report.num_annotations,
            'classes': list(report.classes),
            'usable_boxes': {name: report.boxes[name] for name in report.classes},
            'faults': faults_by_kind(report),
        }
        for name, report in reports.items()
    }
