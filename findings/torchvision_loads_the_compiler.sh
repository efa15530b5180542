#!/usr/bin/env bash
# torch 2.14.1, torchvision 0.29.1, onedl-mmengine 0.10.12, Python 3.11, 2026-12-01.
#
# `import torch` loads neither PyTorch's compiler nor SymPy. `import torchvision` loads both, and the
# distributed tensors, whatever of it is used: its RoI align asks Dynamo at the top of the file
# whether the system can compile, in the same file that puts the compiling itself off to the first
# call, lest the compiler be loaded. `mmengine.model`, from which any model of OpenMMLab inherits,
# loads FSDP and SymPy, without the compiler: it holds PyTorch's optimizer that shards its state.
# Either takes about as long again as torch itself: what needs one layer of torchvision, as stochastic
# depth, waits for all of it, also to say that an argument was misspelt.
#
# Seen:
#   torch: none of them
#   torchvision: torch._dynamo sympy torch.distributed.tensor torch.distributed.fsdp
#   mmengine.registry: none of them
#   mmengine.model: sympy torch.distributed.tensor torch.distributed.fsdp
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 onedl-mmengine==0.10.12 \
    >/dev/null 2>&1
cd "$work"
cat > loaded.py <<'PY'
import importlib
import sys

HEAVY = 'torch._dynamo', 'sympy', 'torch.distributed.tensor', 'torch.distributed.fsdp'
importlib.import_module(sys.argv[1])
print(f'{sys.argv[1]}:', *[name for name in HEAVY if name in sys.modules] or ['none of them'])
PY
for module in torch torchvision mmengine.registry mmengine.model; do
    venv/bin/python loaded.py "$module"
done | tee seen.txt
diff seen.txt - <<'SEEN'
torch: none of them
torchvision: torch._dynamo sympy torch.distributed.tensor torch.distributed.fsdp
mmengine.registry: none of them
mmengine.model: sympy torch.distributed.tensor torch.distributed.fsdp
SEEN
