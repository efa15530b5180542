"""The one build step that pyproject.toml cannot say: where `mim` looks for configs and tools."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent

# What `mim` and the command `effvit-mm` look for inside the package, in effvit_mm/.mim.
MIM_CONTENT = ('model-index.yml', 'configs', 'tools')


class BuildWithConfigs(build_py):
    """Put configs and tools where mim finds them: copied into wheels, linked when editable."""

    def run(self) -> None:
        super().run()
        root = HERE if self.editable_mode else Path(self.build_lib)
        folder = root / 'effvit_mm' / '.mim'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in MIM_CONTENT:
            source, target = HERE / name, folder / name
            if self.editable_mode:
                target.symlink_to(source)
            elif source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(source, target)


setup(cmdclass={'build_py': BuildWithConfigs})
