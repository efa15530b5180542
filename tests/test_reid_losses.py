"""Losses and poolings of re-identification do what their papers say."""

import builtins
import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as library
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import nn

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.openmm.reid.losses import (
    ArcFaceLoss,
    CircleLoss,
    SoftmaxLoss,
    TripletLoss,
    hardest_distances,
)
from effvit_mm.reid.pooling import AveragePooling, GeMPooling, TokenPooling, pooled_width

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
CAMERAS = torch.tensor([0, 0, 1, 0, 1, 2, 3, 3, 3])


def features(count=9, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator, requires_grad=True)


def by_hand(x, labels, cameras=None):
    """The definition in loops: (farthest of the person, nearest of another) of each image."""
    pairs = []
    for i in range(len(x)):
        own = [j for j in range(len(x)) if labels[j] == labels[i] and j != i]
        if cameras is not None:
            own = [j for j in own if cameras[j] != cameras[i]] or own
        others = [j for j in range(len(x)) if labels[j] != labels[i]]
        pairs.append(
            (
                max(math.dist(x[i], x[j]) for j in own),
                min(math.dist(x[i], x[j]) for j in others),
            )
        )
    return torch.tensor(pairs, dtype=torch.float32).unbind(1)


@pytest.mark.parametrize('cameras', [None, CAMERAS], ids=['all', 'other cameras'])
def test_hardest_pairs_are_those_of_the_definition(cameras):
    x = features()
    found = hardest_distances(x, LABELS, cameras)
    for value, expected in zip(found, by_hand(x.tolist(), LABELS, cameras), strict=True):
        torch.testing.assert_close(value.detach(), expected)


def test_cameras_change_what_is_hardest():
    x = features()
    assert not torch.equal(
        hardest_distances(x, LABELS)[0], hardest_distances(x, LABELS, CAMERAS)[0]
    )


def test_triplet_loss_is_the_librarys():
    x = features()
    miner = BatchHardMiner(distance=LpDistance(normalize_embeddings=False))
    reference = library.TripletMarginLoss(
        0.3, distance=LpDistance(normalize_embeddings=False), reducer=MeanReducer()
    )
    expected = reference(x, LABELS, miner(x, LABELS))
    torch.testing.assert_close(TripletLoss(0.3)(x, LABELS, None), expected)


def test_a_soft_margin_is_the_softplus_of_the_gap_and_never_ends():
    far = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
    labels = torch.tensor([0, 0, 1, 1])
    assert TripletLoss(0.3)(far, labels, None) == 0
    soft = TripletLoss('soft')(far, labels, None)
    gaps = torch.tensor([0.1 - 9.0, 0.1 - 8.9, 0.1 - 8.9, 0.1 - 9.0])
    torch.testing.assert_close(soft, torch.log1p(gaps.exp()).mean())
    assert soft > 0


def test_equal_images_give_finite_gradients():
    x = torch.ones(4, 3, requires_grad=True)
    TripletLoss(0.3)(x, torch.tensor([0, 0, 1, 1]), None).backward()
    assert x.grad.isfinite().all()


def test_near_features_far_from_zero_keep_their_distances():
    """Products of large numbers would lose them."""
    x = 1000 + 1e-2 * torch.arange(60.0)[:, None]
    farthest, nearest = hardest_distances(x, torch.arange(60) // 2)
    torch.testing.assert_close(farthest, torch.full((60,), 1e-2), rtol=2e-2, atol=0)
    torch.testing.assert_close(nearest[0], torch.tensor(2e-2), rtol=2e-2, atol=0)


def test_images_without_a_second_of_their_person_are_no_anchors():
    farthest, nearest = hardest_distances(features(4), torch.tensor([0, 0, 1, 2]))
    assert farthest.shape == nearest.shape == (2,)


@pytest.mark.parametrize('labels', [[0, 1, 2, 3], [0, 0, 0, 0]], ids=['one each', 'one person'])
def test_a_batch_without_triplets_says_what_sampler_it_needs(labels):
    with pytest.raises(DataError, match='PKSampler'):
        TripletLoss()(features(4), torch.tensor(labels), None)


def test_a_cross_camera_triplet_needs_cameras():
    with pytest.raises(DataError, match='cross_camera'):
        TripletLoss(cross_camera=True)(features(), LABELS, None)


@pytest.mark.parametrize('margin', [-0.1, 'hard', True, None])
def test_a_margin_that_cannot_be_is_refused(margin):
    with pytest.raises(ConfigError, match=r'metric_loss\.margin'):
        TripletLoss(margin)


def test_label_smoothing_is_the_papers():
    classifier = SoftmaxLoss(5, 3, label_smoothing=0.1)
    nn.init.normal_(classifier.weight)
    x = features()
    loss, logits = classifier.loss(x, LABELS)
    target = 0.9 * F.one_hot(LABELS, 3) + 0.1 / 3
    torch.testing.assert_close(loss, -(target * logits.log_softmax(1)).sum(1).mean())
    torch.testing.assert_close(logits, x @ classifier.weight.T)
    assert [name for name, _ in classifier.named_parameters()] == ['weight']


def test_arcface_puts_a_margin_on_the_angle():
    torch.manual_seed(0)
    classifier = ArcFaceLoss(5, 3, margin=30, scale=10)
    x = features()
    loss, logits = classifier.loss(x, LABELS)
    cosines = F.normalize(x) @ F.normalize(classifier.arcface.W, dim=0)
    torch.testing.assert_close(logits, 10 * cosines)
    shifted = (cosines.gather(1, LABELS[:, None]).acos() + math.pi / 6).cos()
    logits = 10 * cosines.scatter(1, LABELS[:, None], shifted)
    expected = F.cross_entropy(logits, LABELS)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_circle_loss_falls_when_persons_part():
    x = F.one_hot(LABELS, 5).float()
    loss = CircleLoss()
    assert loss(x, LABELS, None) < loss(features(), LABELS, None)


@pytest.mark.parametrize(
    'make', [CircleLoss, lambda weight=1.0: TripletLoss(weight=weight)], ids=['circle', 'triplet']
)
def test_a_weight_scales_a_metric_loss(make):
    x = features()
    torch.testing.assert_close(make(weight=0.25)(x, LABELS, None), make()(x, LABELS, None) * 0.25)


@pytest.mark.parametrize(
    'make, who',
    [(CircleLoss, 'CircleLoss'), (lambda: ArcFaceLoss(4, 3), 'ArcFaceLoss')],
    ids=['circle', 'arcface'],
)
def test_a_missing_library_is_named(monkeypatch, make, who):
    original = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith('pytorch_metric_learning'):
            raise ModuleNotFoundError(name, name='pytorch_metric_learning')
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', missing)
    with pytest.raises(ConfigError, match=f'{who}.*pip install pytorch-metric-learning'):
        make()


# --- Pooling ----------------------------------------------------------------------------------


def test_gem_lies_between_mean_and_maximum():
    x = torch.rand(2, 4, 6, 3)
    torch.testing.assert_close(GeMPooling(1.0)(x), AveragePooling()(x))
    torch.testing.assert_close(GeMPooling(60.0)(x), x.amax((2, 3)), rtol=0.1, atol=0)
    cubes = (x**3).mean((2, 3)) ** (1 / 3)
    torch.testing.assert_close(GeMPooling()(x), cubes)


def test_gem_learns_its_exponent_and_bears_negative_maps():
    pooling, x = GeMPooling(), (-torch.rand(2, 3, 4, 4)).requires_grad_()
    pooling(x).sum().backward()
    assert pooling.p.grad.isfinite().all() and x.grad.isfinite().all()
    assert list(pooling.state_dict()) == ['p']
    with pytest.raises(ConfigError, match=r'pooling\.p=0'):
        GeMPooling(0)


def test_gem_is_exact_under_autocast():
    x = torch.rand(2, 3, 8, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = GeMPooling()(x)
    torch.testing.assert_close(mixed, GeMPooling()(x))


def test_tokens_are_joined():
    parts = [torch.rand(2, 3), torch.rand(2, 5)]
    torch.testing.assert_close(TokenPooling()(parts), torch.cat(parts, 1))


class Declared(nn.Module):
    out_channels, token_widths = (8, 16), (4, 6)

    def __init__(self, out_type):
        super().__init__()
        self.out_type = out_type


def test_the_width_is_that_of_what_is_pooled():
    assert pooled_width(Declared('featmap'), AveragePooling(), None) == 16
    assert pooled_width(Declared('cls_token'), TokenPooling(), None) == 10
    assert pooled_width(nn.Identity(), GeMPooling(), 7) == 7


@pytest.mark.parametrize(
    'backbone, pooling, given, message',
    [
        (Declared('cls_token'), AveragePooling(), None, "takes maps.*class tokens.*'featmap'"),
        (Declared('featmap'), TokenPooling(), None, "takes vectors.*maps.*'cls_token'"),
        (Declared('featmap'), AveragePooling(), 8, 'in_channels=8.*16'),
        (nn.Identity(), AveragePooling(), None, 'in_channels is missing'),
    ],
)
def test_a_pooling_that_does_not_fit_is_refused(backbone, pooling, given, message):
    with pytest.raises(ConfigError, match=message):
        pooled_width(backbone, pooling, given)
