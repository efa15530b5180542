"""Focal loss on logits (sigmoid) and on probabilities (softmax), with its derivatives.

Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5. With p the probability
given to the true class, the loss is ``-alpha (1 - p)^gamma log p``.

As in the compiled operators, the logarithm's argument is at least float32's smallest normal
number. Those read past the end of ``weight`` for a label that is no class; here it weighs 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import working_dtype

SMALLEST = torch.finfo(torch.float32).tiny


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each sample and class into ``output``.

    Args:
        input: logits (N, C).
        target: classes (N,), int64; a label outside [0, C) is the background.
        weight: weights of classes (C,), or empty.
        output: (N, C).
        gamma: exponent of the modulating factor.
        alpha: weight of the true class; the others weigh ``1 - alpha``.
    """
    p, hit = _probability(input, target)
    positive = -alpha * (1 - p).pow(gamma) * _log(p)
    negative = -(1 - alpha) * p.pow(gamma) * _log(1 - p)
    output.copy_(torch.where(hit, positive, negative) * _class_weight(weight, target)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of :func:`sigmoid_focal_loss_forward` into ``grad_input`` (N, C)."""
    p, hit = _probability(input, target)
    q = 1 - p
    positive = -alpha * q.pow(gamma) * (q - gamma * p * _log(p))
    negative = -(1 - alpha) * p.pow(gamma) * (gamma * q * _log(q) - p)
    grad_input.copy_(torch.where(hit, positive, negative) * _class_weight(weight, target)[:, None])


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each sample into ``output``.

    Args:
        input: probabilities (N, C): the softmax is already applied.
        target: classes (N,), int64; a label outside [0, C) costs nothing.
        weight: weights of classes (C,), or empty.
        output: (N,).
        gamma: exponent of the modulating factor.
        alpha: factor of the whole loss.
    """
    p, valid = _true_probability(input, target)
    loss = -alpha * (1 - p).pow(gamma) * _log(p) * _class_weight(weight, target)
    output.copy_(loss.where(valid, 0))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of the loss with respect to the logits into ``grad_input``.

    Args:
        input, target, weight, gamma, alpha: as in :func:`softmax_focal_loss_forward`.
        buff: (N,), takes ``p dL/dp``, with p the probability of the true class.
        grad_input: (N, C).
    """
    p, valid = _true_probability(input, target)
    q = 1 - p
    slope = alpha * (gamma * q.pow(gamma - 1) * p * _log(p) - q.pow(gamma))
    slope = (slope * _class_weight(weight, target)).where(valid, 0)
    buff.copy_(slope)
    hit = _one_hot(target, input).to(slope.dtype)
    grad_input.copy_(slope[:, None] * (hit - input.to(slope.dtype)))


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=SMALLEST).log()


def _one_hot(target: Tensor, like: Tensor) -> Tensor:
    """Where sample n has class c: (N,) -> (N, C), bool; all False for a label that is no class."""
    return target[:, None] == torch.arange(like.size(1), device=like.device)


def _probability(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of all classes, and where the class is the true one: both (N, C)."""
    return logits.to(working_dtype(logits)).sigmoid(), _one_hot(target, logits)


def _true_probability(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the true class, and where there is one: both (N,)."""
    classes = softmax.size(1)
    valid = (target >= 0) & (target < classes)
    index = target.clamp(0, classes - 1)[:, None]
    return softmax.to(working_dtype(softmax)).gather(1, index)[:, 0], valid


def _class_weight(weight: Tensor, target: Tensor) -> Tensor:
    """Weights of the samples: (N,)."""
    if weight.numel() == 0:
        return torch.ones_like(target, dtype=working_dtype(weight))
    valid = (target >= 0) & (target < weight.numel())
    picked = weight.to(working_dtype(weight))[target.clamp(0, weight.numel() - 1)]
    return picked.where(valid, 1)
