"""The programs in tools/, as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def load_tool(name: str) -> ModuleType:
    """``tools/<name>.py``: ``'analysis_tools/check_dataset'``; its ``main`` takes the arguments."""
    spec = importlib.util.spec_from_file_location(Path(name).name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
