"""Which metric a config's evaluators name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmengine.config import Config

# mmdet's metrics of which effvit_mm has its own, which keep what they computed.
OWN_METRICS = ('CocoMetric', 'FasterCocoMetric', 'VOCMetric')


def evaluators_of(cfg: Config) -> Iterator[Mapping]:
    """The configs of all metrics of validation and test."""
    for key in ('val_evaluator', 'test_evaluator'):
        nodes = cfg.get(key)
        for node in nodes if isinstance(nodes, list | tuple) else [nodes]:
            if isinstance(node, Mapping) and isinstance(node.get('type'), str):
                yield node


def use_own_metrics(cfg: Config) -> None:
    """Let ``effvit_mm``'s detection metrics stand for mmdet's of the same names and figures."""
    for node in evaluators_of(cfg):
        scope, _, name = node['type'].rpartition('.')
        if name in OWN_METRICS and (scope or cfg.get('default_scope')) == 'mmdet':
            node['type'] = f'effvit_mm.{name}'
