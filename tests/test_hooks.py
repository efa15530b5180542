"""Who looks at a network sees what its layers gave, for every named model in every form.

Activation maps, feature extractors, distillation and counters of multiply-adds keep by reference
what forward hooks hand them: nothing may write over it afterwards.
"""

import copy

import pytest
import torch
from networks import as_trained, deviation, images
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import effvit_mm
from effvit_mm.attention.linear_angular import ValueConvolution
from effvit_mm.backbones.mvitv2 import TokenPooling
from effvit_mm.deploy import modules
from effvit_mm.models import MODEL_TABLE

# Blocks of each kind that a network has; a name's widths, heads and stems stay.
FEW_BLOCKS = {
    'PSLT': {'depths': (1, 2, 1, 1)},
    'CrossViT': {'depth': 2},
    'LeViT': {'depths': (1, 1, 1)},
    'MViTv2': {'depths': (1, 2, 1, 1)},
    'VisionTransformer': {'depths': (1, 1, 1, 1)},
}


def build(name):
    """The classifier of this name with few blocks, in evaluation mode."""
    family, preset = MODEL_TABLE[name]
    cls = family.backbone
    kwargs = {'arch': {**cls.settings(preset['arch']), **FEW_BLOCKS[cls.__name__]}}
    if 'sampled_blocks' in preset:
        kwargs['sampled_blocks'] = (1, 2)
    torch.manual_seed(0)
    return as_trained(effvit_mm.create_model(name, num_classes=7, **kwargs))


def tensors_in(value):
    """All tensors of what a module takes or gives."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []


class Watch:
    """Hooks on every module, and one for all modules, that keep and copy what they are handed."""

    def __init__(self, model):
        self.names = {module: name for name, module in model.named_modules()}
        self.kept, self.called = [], set()
        self.handles = [module.register_forward_hook(self.look) for module in model.modules()]
        self.handles.append(register_module_forward_hook(self.look_at_any))

    def look(self, module, inputs, output):
        given = tensors_in(inputs) + tensors_in(output)
        self.kept.append((self.names[module], given, [tensor.clone() for tensor in given]))

    def look_at_any(self, module, inputs, output):
        self.called.add(module)
        self.look(module, inputs, output)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()

    def written_over(self):
        """Names of the modules of which a kept tensor is no longer what it was."""
        return [
            name for name, given, copies in self.kept if not all(map(torch.equal, given, copies))
        ]


def used_otherwise(model):
    """Layers whose weights are multiplied in another order than a call of them would."""
    layers = set()
    for module in model.modules():
        if isinstance(module, modules.OneQueryAttention):
            layers |= {module.k, module.v}
        elif isinstance(module, TokenPooling) or (
            isinstance(module, ValueConvolution) and module.dims == 2
        ):
            layers.add(module.conv)
    return layers


@pytest.mark.parametrize('name', effvit_mm.list_models())
def test_what_hooks_keep_stays(name, monkeypatch):
    """And outputs are the same in every form, watched or not."""
    monkeypatch.setattr(modules, 'BAND', 1 << 16)  # these maps would need no bands
    plain, x = build(name), images(64, 64)
    deployed = copy.deepcopy(plain).switch_to_deploy()
    with torch.no_grad():
        want = plain(x)
    for model, mode in (
        (plain, torch.no_grad),
        (deployed, torch.no_grad),
        (deployed, torch.inference_mode),
    ):
        with mode(), Watch(model) as watch:
            output = model(x)
            assert not watch.written_over()
        assert deviation(output, want) < 1e-4
        layers = {m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)}
        assert layers - watch.called == used_otherwise(model)
        with mode():
            assert torch.equal(model(x), output)
