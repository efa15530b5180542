"""Metrics of classification whose arguments are for other data, which no figure would tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..config.arguments import has_type, metric_nodes


def wrong_metrics(evaluators: object, key: str, classes: int) -> Iterator[str]:
    """A line about each metric of another number of classes than a set has.

    Args:
        evaluators: The part of the config with what judges the set; its key is ``key``.
        classes: Of the set.
    """
    for path, node in _metrics(evaluators, key):
        given = node.get('num_classes')
        if isinstance(given, int) and given != classes:
            yield (
                f'{path}.num_classes={given}: the set that it judges has {classes} classes; set '
                f'{path}.num_classes={classes}, or leave it out'
            )


def odd_metrics(evaluators: object, key: str) -> Iterator[str]:
    """A line about each metric of several labels an image, for a set that has one each."""
    for path, node in _metrics(evaluators, key):
        if has_type(node, 'MultiLabelMetric'):
            yield (
                f'{path} (MultiLabelMetric) judges each class by itself, by whether its score '
                'is above a threshold, and the set has one label an image; SingleLabelMetric takes '
                'the class of the highest score'
            )


def _metrics(evaluators: object, key: str) -> Iterator[tuple[str, Mapping]]:
    """Metrics by the names that ``--cfg-options`` has for them."""
    for path, node in metric_nodes(evaluators, key):
        yield re.sub(r'\[(\d+)\]', r'.\1', path), node
