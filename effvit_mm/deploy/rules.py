"""What each trained module becomes. Equal outputs, in evaluation, at every size."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ..attention import CrossAttention, LinearAngularAttention, ShiftedWindowAttention, has
from ..backbones import PSLT, VisionTransformer, levit, mvitv2, pslt
from ..backbones.stochastic_depth import StochasticDepth
from ..backbones.transformer import MLP
from ..heads import LeViTHead, NormLinear, TokenHeads
from .folding import fold_batch_norms, fold_linear_norm, fold_norm_linear, mean_linear
from .modules import (
    BandedInvertedResidual,
    GatheredWindowAttention,
    LinearGELU,
    OneQueryAttention,
    PixelLinear,
    join_gelu,
)
from .table import deployed_as


@deployed_as(StochasticDepth)
def _no_drop(module: StochasticDepth) -> nn.Module:
    return nn.Identity()


# PSLT -------------------------------------------------------------------------------------------


@deployed_as(pslt.InvertedResidual)
def _inverted_residual(block: pslt.InvertedResidual) -> nn.Module:
    _fold_bottleneck(block)
    return BandedInvertedResidual(block)


@deployed_as(pslt.ConvFFN)
def _conv_ffn(block: pslt.ConvFFN) -> nn.Module:
    _fold_bottleneck(block)
    return block


def _fold_bottleneck(block: pslt.InvertedResidual | pslt.ConvFFN) -> None:
    fold_batch_norms(block.expand, block.depthwise, block.project)
    for part in (block.expand, block.project):
        part[0] = PixelLinear(part[0])
    for part in (block.expand, block.depthwise):
        join_gelu(part)


@deployed_as(ShiftedWindowAttention)
def _shifted_window_attention(layer: ShiftedWindowAttention) -> nn.Module:
    if has(layer.mechanism, 'takes_bias'):
        return GatheredWindowAttention(layer)
    if hasattr(layer, 'relative_position_bias_table'):
        del layer.relative_position_bias_table  # it was for the training branch alone
    return layer


@deployed_as(PSLT)
def _pslt(network: PSLT) -> nn.Module:
    # The stem's last norm has no one behind it but the first stage's first convolution.
    fold_batch_norms(*network.stem, network.stages[0][0].expand)
    for part in network.stem:
        join_gelu(part)
    return network


# The plain transformer and CrossViT ---------------------------------------------------------------


@deployed_as(VisionTransformer)
def _vision_transformer(network: VisionTransformer) -> nn.Module:
    attention = network.stages[-1][-1].attn
    whole_map = network.window_size is None or not hasattr(attention, 'window_size')
    if whole_map and has(attention.mechanism, 'takes_extra_queries'):
        network.extra_alone = True
    return network


@deployed_as(MLP)
def _mlp(layers: MLP) -> nn.Module:
    return nn.Sequential(OrderedDict(fc1=LinearGELU(layers.fc1), fc2=layers.fc2))


@deployed_as(CrossAttention)
def _cross_attention(layer: CrossAttention) -> nn.Module:
    return OneQueryAttention(layer)


@deployed_as(LinearAngularAttention)
def _linear_angular(mechanism: LinearAngularAttention) -> nn.Module:
    mechanism.masked_softmax, mechanism.density = False, None
    convolution = getattr(mechanism, 'value_conv', None)
    if convolution is not None and convolution.dims == 2:
        _repeat_kernels(convolution.conv, mechanism.value_dim, interleave=True)
    return mechanism


def _repeat_kernels(conv: nn.Conv2d, times: int, interleave: bool) -> None:
    """Keep the kernels as they are used, for each of a head's channels or for each head."""
    weight = conv.weight.detach()
    weight = weight.repeat_interleave(times, 0) if interleave else weight.repeat(times, 1, 1, 1)
    conv.weight = nn.Parameter(weight, requires_grad=False)


# LeViT and MViTv2 ---------------------------------------------------------------------------------


@deployed_as(levit.ConvNorm)
def _conv_norm(layer: levit.ConvNorm) -> nn.Module:
    fold_batch_norms(layer)
    return layer


def _named_linear(linear: nn.Linear) -> nn.Sequential:
    """A linear layer whose weights keep the name ``linear``."""
    return nn.Sequential(OrderedDict(linear=linear))


@deployed_as(levit.LinearNorm)
def _linear_norm(layer: levit.LinearNorm) -> nn.Module:
    return _named_linear(fold_linear_norm(layer.linear, layer.norm))


@deployed_as(levit.BiasedAttention)
def _biased_attention(layer: levit.BiasedAttention) -> nn.Module:
    if not has(layer.mechanism, 'takes_bias') and hasattr(layer, 'relative_position_bias'):
        del layer.relative_position_bias  # it was for the training branch alone
    return layer


@deployed_as(mvitv2.PoolingAttention)
def _pooling_attention(layer: mvitv2.PoolingAttention) -> nn.Module:
    if not has(layer.mechanism, 'takes_bias'):
        layer.relative_position = None
    for pool in (layer.pool_q, layer.pool_k, layer.pool_v):
        _repeat_kernels(pool.conv, layer.num_heads, interleave=False)
    return layer


# Heads --------------------------------------------------------------------------------------------


@deployed_as(NormLinear)
def _norm_linear(layer: NormLinear) -> nn.Module:
    return _named_linear(fold_norm_linear(layer.bn, layer.linear))


@deployed_as(TokenHeads)
def _token_heads(head: TokenHeads) -> nn.Module:
    if head.fcs is not None:
        head.fc, head.fcs = mean_linear(head.fcs, joined=True), None
    return head


@deployed_as(LeViTHead)
def _levit_head(head: LeViTHead) -> nn.Module:
    if head.head_dist is not None:
        heads = [head.head.linear, head.head_dist.linear]
        head.head, head.head_dist = mean_linear(heads, joined=False), None
    return head
