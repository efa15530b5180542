#!/usr/bin/env bash
# gradio 6.31.0, pillow 12.3.0, numpy 2.2.6, Python 3.11, 2026-11-30.
#
# gradio.Image converts what is uploaded by Pillow's convert('RGB') before the program sees it. Pillow
# cuts 16 bits off at 255 there: a grey PNG of 16 bits, as microscopes and depth cameras write, arrives
# as a white picture, without a word, whether arrays, Pillow's images or file names are asked for. With
# image_mode=None arrays have the 16 bits, and file names are those of the upload.
#
# Seen (a ramp of 16 bits from 0 to 65,280 in steps of 256; the share of its pixels that are white):
#   numpy RGB: uint8, white 1.00
#   pil RGB: uint8, white 1.00
#   filepath RGB: uint8, white 1.00
#   numpy None: uint16, white 0.00
#   filepath None: uint16, white 0.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q gradio==6.31.0 pillow==12.3.0 numpy==2.2.6 >/dev/null 2>&1
cd "$work"
export GRADIO_ANALYTICS_ENABLED=False GRADIO_TEMP_DIR="$work/uploads"
venv/bin/python - <<'PY' | tee seen
import gradio
import numpy as np
from gradio.data_classes import ImageData
from PIL import Image

ramp = np.arange(256, dtype=np.uint16)[None].repeat(8, 0) * 256
Image.fromarray(ramp).save('ramp.png')
for kind, mode in (('numpy', 'RGB'), ('pil', 'RGB'), ('filepath', 'RGB'), ('numpy', None), ('filepath', None)):
    with gradio.Blocks():
        image = gradio.Image(type=kind, image_mode=mode)
    given = image.preprocess(ImageData(path='ramp.png', orig_name='ramp.png'))
    array = np.asarray(Image.open(given) if isinstance(given, str) else given)
    white = float((array >= (65535 if array.dtype == np.uint16 else 255)).mean())
    print(f'{kind} {mode}: {array.dtype}, white {white:.2f}')
PY
diff seen - <<'SEEN'
numpy RGB: uint8, white 1.00
pil RGB: uint8, white 1.00
filepath RGB: uint8, white 1.00
numpy None: uint16, white 0.00
filepath None: uint16, white 0.00
SEEN
