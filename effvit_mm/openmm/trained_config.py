"""What a checkpoint keeps of the config that it was trained with, read as data, never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .config.arguments import type_path

# What reads and packs says nothing of how an image is prepared.
BESIDE = re.compile('^(Load|Pack)')


def describe_other_pipeline(steps: Sequence, config: str, meta: Mapping, checkpoint: str) -> str:
    """A line where images are prepared in another way than in the checkpoint's own tests.

    A config of the name that it was trained by may have been changed since, and is trusted.

    Args:
        steps: The test pipeline of the config.
        config: Its path.
        meta: The checkpoint's, of mmengine: ``experiment_name`` and ``cfg``.
        checkpoint: How messages call it.

    Returns:
        Nothing where both are alike, or the checkpoint does not tell.
    """
    name = re.sub(r'_\d{8}_\d{6}$', '', str(meta.get('experiment_name') or ''))
    trained = test_pipeline(str(meta.get('cfg') or ''))
    if not name or trained is None or name == Path(config).stem or _plain(steps) == _plain(trained):
        return ''
    return (
        f'checkpoint {checkpoint} was trained by {name}, whose test pipeline prepares images in '
        f'another way than {config}: results may be wrong; give the config that it was trained with'
    )


def test_pipeline(text: str) -> list | None:
    """The innermost ``pipeline`` of ``test_dataloader`` in a written config; None if unreadable."""
    try:
        for node in ast.parse(text).body:
            names = [getattr(target, 'id', '') for target in getattr(node, 'targets', ())]
            if isinstance(node, ast.Assign) and names == ['test_dataloader']:
                found = ast.literal_eval(_Dicts().visit(node.value))
                while isinstance(found, dict) and 'dataset' in found:
                    found = found['dataset']
                return found.get('pipeline')
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return None


class _Dicts(ast.NodeTransformer):
    """Calls of ``dict`` as dicts; what else is called stays, and is refused as no data."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        named = all(keyword.arg for keyword in node.keywords)
        if getattr(node.func, 'id', '') != 'dict' or node.args or not named:
            return node
        return ast.Dict(
            keys=[ast.Constant(keyword.arg) for keyword in node.keywords],
            values=[self.visit(keyword.value) for keyword in node.keywords],
        )


def _plain(value: Any) -> Any:
    """Lists for tuples, types without their package, without the steps that read and pack."""
    if isinstance(value, Mapping):
        kind = type_path(value.get('type', '')).rpartition('.')[2]
        return {**{key: _plain(item) for key, item in value.items()}, 'type': kind}
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return [i for i in items if not (isinstance(i, dict) and BESIDE.search(i['type']))]
    return value
