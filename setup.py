"""Installs effvit_mm; the extras keep the two families of OpenMMLab packages apart."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent

# What `mim` looks for inside the package, in effvit_mm/.mim.
MIM_CONTENT = ('model-index.yml', 'configs', 'tools')

# OneDL's distributions keep OpenMMLab's import names (mmengine, mmcv, ...) and its files. Both
# families cannot be installed together, which is why neither is a hard requirement.
OPENMM = [
    'onedl-mmengine>=0.10.12',
    'onedl-mmcv>=2.3.6',
    'onedl-mmpretrain>=1.3.6',
    'onedl-mmdetection>=3.5.1',
]
REID = [
    # torchreid declares none of what it imports.
    'torchreid>=0.2.5',
    'gdown',
    'h5py',
    'imageio',
    'opencv-python',
    'scipy',
    'six',
    'tensorboard',
    # Search in large galleries, further losses, tables of features.
    'faiss-cpu>=1.11',
    'pytorch-metric-learning>=2.8',
    'pyarrow>=17',
]
# Formats of other runtimes; see docs/export.md. onnx before 1.21 read files outside a folder.
ONNX = ['onnx>=1.21', 'onnxruntime>=1.20', 'onnxscript>=0.5.6']
OPENVINO = ['openvino>=2025.0', 'nncf>=3.4']
# What a file with its preprocessing says of photographs is done by OpenCV or Pillow.
EXPORT = [*ONNX, *OPENVINO, 'torch>=2.9', 'opencv-python', 'pillow']
# ByteTrack and HOTA: 0.2 MB; supervision, which it brings, has 0.5 MB and asks for PyAV, 36 MB.
TRACK = ['trackers>=2.6', 'opencv-python', 'scipy']
# Galleries in Milvus: 8 MB; pandas, which the client brings, has 84 MB.
GALLERY = ['pymilvus>=2.6', 'milvus-lite>=3.2']
# The web page. Before 6.0 its look went into another call, and buttons had other names.
APP = ['gradio>=6.0']
# The site of the documentation: 125 MB, half of them icons (Material), a third languages (Babel).
DOCS = [
    'mkdocs>=1.6,<2',
    'mkdocs-material>=9.6',
    'mkdocstrings[python]>=0.27',
    'latex2mathml>=3.77',
]
DEV = [
    *REID,
    *APP,
    *DOCS,
    *TRACK,
    *GALLERY,
    *ONNX,
    *OPENVINO,
    'hypothesis>=6.100',
    'pytest>=8',
    'pytest-xdist>=3.5',
    'ruff>=0.8',
    'timm>=1.0.15',
    # Two evaluations that are held against each other.
    'pycocotools>=2.0.7',
    'faster-coco-eval>=1.6',
]


def version() -> str:
    for line in (HERE / 'effvit_mm' / 'version.py').read_text().splitlines():
        if line.startswith('__version__'):
            return line.split("'")[1]
    raise RuntimeError('effvit_mm/version.py has no __version__')


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


setup(
    name='effvit-mm',
    version=version(),
    description='Efficient vision-transformer backbones for classification, detection and re-ID',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10,<3.14',
    cmdclass={'build_py': BuildWithConfigs},
    packages=find_packages(include=['effvit_mm', 'effvit_mm.*']),
    install_requires=[
        'torch>=2.4',
        'torchvision>=0.19',
        'numpy',
        'safetensors',
        'rich',
        'matplotlib',
        'scikit-learn',
    ],
    extras_require={
        'openmm': OPENMM,
        'reid': REID,
        'export': EXPORT,
        'track': TRACK,
        'gallery': GALLERY,
        'app': APP,
        'docs': DOCS,
        'dev': DEV,
        'all': OPENMM + DEV + EXPORT,
    },
)
