"""Every network on a device against the CPU in float64: numbers, mixed precision, layouts, graphs.

The CPU half runs small networks of every family, the CUDA half the published ones as well.
"""

import copy
from dataclasses import dataclass

import pytest
import torch
from devices import every_half
from networks import as_trained, deviation, images, tensors
from students import NETWORKS
from torch import nn

import effvit_mm
from effvit_mm.flops import count_flops
from effvit_mm.runtime.token_budgets import set_token_budgets, token_budgets

SMALL, PUBLISHED = 'small', 'published'
SUBJECTS = [
    *((SMALL, name, 'cpu') for name in NETWORKS),
    *(pytest.param((SMALL, name, 'cuda'), marks=pytest.mark.gpu) for name in NETWORKS),
    *(
        pytest.param((PUBLISHED, name, 'cuda'), marks=pytest.mark.gpu)
        for name in effvit_mm.list_models()
    ),
]
# Largest difference over the largest value; of halves, whose 11 and 8 bits a deep network adds up.
EXACT = 1e-3
ROUGH = {torch.float16: 0.01, torch.bfloat16: 0.05}
# Positions of MViTv2 are logits as large as the table's values: of the half step that they lose.
LOGITS = 8


@dataclass
class Subject:
    """A network on a device, images, and what the CPU makes of them in float64.

    Of networks that drop tokens an image differs where a token lies at the edge of being kept, and
    rounding decides: most images, not all, are held to the bound.
    """

    model: nn.Module
    x: torch.Tensor
    want: torch.Tensor
    device: str
    softness: float
    program: nn.Module | None = None

    def far(self, got: torch.Tensor) -> float:
        """How far an output lies from the CPU's, of the worst image, or of the middle one."""
        assert got.isfinite().all() and got.device.type == self.device
        pairs = zip(got.double().cpu(), self.want, strict=True)
        distances = torch.tensor([float((a - b).abs().max() / b.abs().max()) for a, b in pairs])
        return float(distances.median() if token_budgets(self.model) else distances.max())

    @torch.no_grad()
    def run(self, model: nn.Module, **layout) -> torch.Tensor:
        return one(model.to(self.device, **layout)(self.x.to(self.device, **layout)))

    def deployed(self) -> nn.Module:
        return copy.deepcopy(self.model).switch_to_deploy()


def one(output) -> torch.Tensor:
    """Several heads' logits side by side."""
    return torch.cat(tensors(output), 1)


@pytest.fixture(scope='module', params=SUBJECTS, ids=lambda subject: '-'.join(subject))
def subject(request):
    size, name, device = request.param
    torch.manual_seed(0)
    changes = NETWORKS[name] if size == SMALL else {}
    model = as_trained(effvit_mm.create_model(name, num_classes=20, **changes))
    side = 240 if 'crossvit' in name else 224
    x = images(64, 96, batch=5) if size == SMALL else images(side, side, batch=3)
    with torch.no_grad():
        want = one(copy.deepcopy(model).double()(x.double()))
    yield Subject(model, x, want, device, LOGITS if name.startswith('mvitv2') else 1)
    model.cpu()
    if device == 'cuda':
        torch.cuda.empty_cache()


def test_float32_is_the_cpus(subject):
    assert subject.far(subject.run(subject.model)) < EXACT
    assert subject.far(subject.run(subject.deployed())) < EXACT


def test_channels_last_changes_nothing(subject):
    for model in (copy.deepcopy(subject.model), subject.deployed()):
        assert subject.far(subject.run(model, memory_format=torch.channels_last)) < EXACT


@every_half
def test_autocast_stays_close(subject, dtype):
    for model in (subject.model, subject.deployed()):
        with torch.autocast(subject.device, dtype):
            assert subject.far(subject.run(model)) < subject.softness * ROUGH[dtype]


def test_weights_in_halves_stay_close(subject):
    model = subject.deployed().bfloat16()
    with torch.no_grad():
        got = one(model.to(subject.device)(subject.x.to(subject.device, torch.bfloat16)))
    assert got.dtype == torch.bfloat16
    assert subject.far(got) < subject.softness * ROUGH[torch.bfloat16]


def test_multiply_adds_are_counted_alike(subject):
    """Whatever kernel a device has for attention."""
    shape = tuple(subject.x.shape[1:])
    if not token_budgets(subject.model):
        want = count_flops(copy.deepcopy(subject.model).to('meta'), shape)
        assert count_flops(subject.model.to(subject.device), shape) == want


def as_graph(subject):
    """The deployed network as a program in which nothing depends on an image, and the images."""
    x = subject.x.to(subject.device)
    if subject.program is None:
        model = subject.deployed().to(subject.device)
        if token_budgets(model):
            set_token_budgets(model, [x], share=1.0)
        subject.program = torch.export.export(model, (x,)).module()
    return subject.program, x


@torch.no_grad()
def test_exported_program(subject):
    program, x = as_graph(subject)
    assert subject.far(one(program(x))) < EXACT


@pytest.mark.gpu
@torch.no_grad()
def test_replayed_cuda_graph(subject):
    """A captured pass, replayed on other images than it was captured with."""
    if subject.device == 'cpu':
        return
    program, x = as_graph(subject)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    static = torch.zeros_like(x)
    with torch.cuda.stream(stream):
        for _ in range(3):
            program(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = one(program(static))
    static.copy_(x)
    graph.replay()
    torch.cuda.synchronize()
    assert deviation(output, one(program(x))) < 1e-5
    assert subject.far(output) < EXACT
