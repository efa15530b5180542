"""On which devices a test runs: on the CPU always, on CUDA with the mark ``gpu``."""

import pytest
import torch

CUDA = pytest.param('cuda', marks=pytest.mark.gpu)
every_device = pytest.mark.parametrize('device', ['cpu', CUDA])
every_half = pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=['fp16', 'bf16'])


def has_gpu() -> bool:
    """Whether PyTorch can use one."""
    return torch.cuda.is_available()


def exact_float32() -> None:
    """No TF32 in products and convolutions: float32 is to be float32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
