"""The re-identification model: any backbone, the BNNeck, losses, deployment, mixed precision."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from people import FAMILIES, GEM, SIZE, SMALL, TOKENS, TRIPLET, build_model

import effvit_mm
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.models import MODEL_TABLE
from effvit_mm.openmm.engine.optim import CPUAmpOptimWrapper
from effvit_mm.openmm.reid.model import ReIDModel
from effvit_mm.openmm.reid.tta import AverageFeatureTTA
from effvit_mm.torchreid import import_torchreid


def batch(count=6, persons=3):
    """Raw images as a loader stacks them, and their labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, *SIZE), generator=generator, dtype=torch.uint8)
    samples = [
        DataSample(metainfo={'camid': i % 2, 'pid': i % persons}).set_gt_label(i % persons)
        for i in range(count)
    ]
    return {'inputs': images, 'data_samples': samples}


def features_of(model, data):
    inputs = model.data_preprocessor(copy.deepcopy(data))['inputs']
    with torch.no_grad():
        return model.eval()(inputs)


@pytest.mark.parametrize('backbone, pooling, length', FAMILIES.values(), ids=FAMILIES)
def test_every_family_trains_and_predicts(backbone, pooling, length):
    model, data = build_model(backbone, pooling), batch()
    prepared = model.data_preprocessor(copy.deepcopy(data), training=True)
    losses = model.train()(**prepared, mode='loss')
    assert {'loss_id', 'loss_metric', 'accuracy'} == set(losses)
    loss, _ = model.parse_losses(losses)
    torch.testing.assert_close(loss, losses['loss_id'] + losses['loss_metric'])
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []

    samples = model.eval().test_step(data)
    features = torch.stack([sample.feature for sample in samples])
    assert features.shape == (6, length) and features.dtype == torch.float32
    assert [sample.pid for sample in samples] == [0, 1, 2, 0, 1, 2]
    torch.testing.assert_close(features, features_of(model, data))


@pytest.mark.parametrize('backbone, pooling, length', FAMILIES.values(), ids=FAMILIES)
def test_the_deployed_form_gives_the_same_features(backbone, pooling, length):
    model, data = build_model(backbone, pooling), batch()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    before = features_of(model, data)
    deployed = model.switch_to_deploy()
    assert deployed is model and not any('classifier' in name for name in model.state_dict())
    torch.testing.assert_close(features_of(model, data), before, rtol=1e-3, atol=1e-4)
    with pytest.raises(RuntimeError, match='ReIDModel'):
        model.train()


@pytest.mark.parametrize('name', effvit_mm.list_models())
def test_every_named_model_is_a_backbone_of_it(name):
    family, preset = MODEL_TABLE[name]
    tokens = family.classifier.get('out_type') == 'cls_token'
    backbone = {'type': f'effvit_mm.{family.backbone.__name__}', **preset, **family.classifier}
    with torch.device('meta'):
        model = build_model(backbone, TOKENS if tokens else None)
        reference = effvit_mm.create_model(name, num_classes=0)
    assert model.neck.num_features == model.num_features == reference.num_features
    state = {key.removeprefix('backbone.') for key in model.state_dict() if 'backbone' in key}
    assert {f'backbone.{key}' for key in state} == set(reference.state_dict())


def test_weights_have_the_agreed_names():
    names = build_model(pooling=GEM).state_dict()
    assert {name.split('.')[0] for name in names} == {'backbone', 'pool', 'neck', 'classifier'}
    assert {'pool.p', 'neck.weight', 'neck.running_mean', 'classifier.weight'} <= set(names)


def test_losses_see_their_side_of_the_neck():
    """The classifier the feature behind the BNNeck, the distances the one before it."""
    model, data = build_model().eval(), batch()
    torch.nn.init.uniform_(model.neck.running_mean, -1, 1)
    torch.nn.init.uniform_(model.neck.running_var, 0.5, 2)
    prepared = model.data_preprocessor(data)
    pooled = model.pooled(prepared['inputs'])
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    losses = model(**prepared, mode='loss')
    torch.testing.assert_close(losses['loss_metric'], model.metric_loss(pooled, labels, None))
    expected, _ = model.classifier.loss(model.neck(pooled), labels)
    torch.testing.assert_close(losses['loss_id'], expected)


def test_the_necks_bias_stays_zero_in_training():
    model, data = build_model(), batch()
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1))
    scale = model.neck.weight.detach().clone()
    for _ in range(2):
        model.train().train_step(copy.deepcopy(data), optimizer)
    assert not model.neck.bias.any()
    assert not torch.equal(model.neck.weight, scale)
    assert model.neck.running_mean.any()


@pytest.mark.parametrize('missing', ['classifier', 'metric_loss'])
def test_one_loss_is_enough_and_leaves_no_parameter_without_gradient(missing):
    model = build_model(**{missing: None})
    prepared = model.data_preprocessor(batch(), training=True)
    loss, _ = model.parse_losses(model.train()(**prepared, mode='loss'))
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert model.neck.running_mean.any()


def test_options_from_the_library_train():
    model = build_model(
        classifier={'type': 'effvit_mm.ArcFaceLoss', 'scale': 16.0},
        metric_loss={'type': 'effvit_mm.CircleLoss', 'weight': 0.1},
    )
    prepared = model.data_preprocessor(batch(), training=True)
    loss, _ = model.parse_losses(model.train()(**prepared, mode='loss'))
    loss.backward()
    assert loss.isfinite() and model.classifier.arcface.W.grad.any()


def test_cameras_reach_a_loss_that_asks_for_them():
    data = batch(8, 2)
    model = build_model(persons=2, metric_loss={**TRIPLET, 'cross_camera': True}).eval()
    prepared = model.data_preprocessor(data)
    pooled = model.pooled(prepared['inputs'])
    labels = torch.tensor([sample.pid for sample in data['data_samples']])
    cameras = torch.tensor([sample.camid for sample in data['data_samples']])
    # Each person is in one camera here: nothing across cameras, so its own counts.
    expected = model.metric_loss(pooled, labels, cameras)
    torch.testing.assert_close(model(**prepared, mode='loss')['loss_metric'], expected)
    del data['data_samples'][0].camid
    prepared = model.data_preprocessor(data)
    with pytest.raises(DataError, match='camid'):
        model(**prepared, mode='loss')


def test_mixed_precision_gives_float32_features_and_losses():
    model, data = build_model(), batch()
    wrapper = CPUAmpOptimWrapper(optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3))
    logs = model.train().train_step(copy.deepcopy(data), wrapper)
    assert all(value.isfinite() and value.dtype == torch.float32 for value in logs.values())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        samples = model.eval().test_step(data)
    assert samples[0].feature.dtype == torch.float32


def test_frozen_stages_stay_as_they_are():
    model, data = build_model({**SMALL, 'frozen_stages': 2}), batch()
    before = {k: v.clone() for k, v in model.backbone.stages[:2].state_dict().items()}
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.1))
    model.train().train_step(data, optimizer)
    after = model.backbone.stages[:2].state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_images_are_turned_to_rgb_and_normalised_as_imagenets():
    image = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, *SIZE)
    model = build_model()
    out = model.data_preprocessor({'inputs': image, 'data_samples': []})['inputs']
    expected = [(30 - 123.675) / 58.395, (20 - 116.28) / 57.12, (10 - 103.53) / 57.375]
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor(expected))


def test_features_of_an_image_and_its_mirror_are_averaged():
    model, data = build_model().eval(), batch()
    mirrored = {'inputs': data['inputs'].flip(-1), 'data_samples': batch()['data_samples']}
    expected = (features_of(model, data) + features_of(model, mirrored)) / 2
    both = {
        key: [copy.deepcopy(data[key]), copy.deepcopy(mirrored[key])]
        for key in ('inputs', 'data_samples')
    }
    with torch.no_grad():
        samples = AverageFeatureTTA(model).test_step(both)
    torch.testing.assert_close(torch.stack([s.feature for s in samples]), expected)
    assert [sample.camid for sample in samples] == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    'options, message',
    [
        ({'persons': 1}, 'num_classes=1.*2 or more'),
        ({'pooling': TOKENS}, 'TokenPooling'),
    ],
)
def test_what_cannot_be_built_says_why(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model(**options)


def test_without_the_number_of_persons_it_predicts_and_refuses_to_train():
    model, data = build_model(persons=None), batch()
    assert not any('classifier' in name for name in model.state_dict())
    assert features_of(model, data).shape == (6, 192)
    with pytest.raises(ConfigError, match='num_classes is missing'):
        model.train()(**model.data_preprocessor(data), mode='loss')


def test_without_any_loss_it_predicts_and_refuses_to_train():
    model, data = build_model(classifier=None, metric_loss=None, persons=None), batch()
    assert features_of(model, data).shape == (6, 192)
    with pytest.raises(ConfigError, match='classifier and metric_loss'):
        model.train()(**model.data_preprocessor(data), mode='loss')


def test_it_predicts_without_data_samples():
    model = build_model().eval()
    assert isinstance(model, ReIDModel)
    samples = model(torch.rand(2, 3, *SIZE), mode='predict')
    assert [sample.feature.shape for sample in samples] == [(192,), (192,)]
    with pytest.raises(ValueError, match="mode='embed'"):
        model(torch.rand(2, 3, *SIZE), mode='embed')


# --- torchreid's networks ---------------------------------------------------------------------

OSNET = {'type': 'effvit_mm.TorchreidBackbone', 'name': 'osnet_x0_25'}


def test_a_network_of_torchreid_is_a_backbone_with_its_own_feature():
    model, data = build_model(OSNET, TOKENS), batch()
    prepared = model.data_preprocessor(copy.deepcopy(data), training=True)
    loss, _ = model.parse_losses(model.train()(**prepared, mode='loss'))
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []

    inputs = model.eval().data_preprocessor(data)['inputs']
    original = import_torchreid('models').build_model('osnet_x0_25', 1, pretrained=False)
    report = original.load_state_dict(model.backbone.model.state_dict(), strict=False)
    assert report.missing_keys == ['classifier.weight', 'classifier.bias']
    with torch.no_grad():
        torch.testing.assert_close(model.pooled(inputs), original.eval()(inputs))
    assert model.num_features == 512


@pytest.mark.parametrize(
    'name, message',
    [('osnet_x9', "'osnet_x9'.*no such model.*osnet_x1_0"), ('pcb_p4', 'one linear classifier')],
)
def test_networks_of_torchreid_that_cannot_be_used_are_named(name, message):
    with pytest.raises(ConfigError, match=message):
        build_model({**OSNET, 'name': name}, TOKENS)


def test_pretrained_weights_of_torchreid_are_asked_for_when_a_training_starts(monkeypatch):
    calls = []
    models = import_torchreid('models')
    original = models.build_model

    def recorded(name, pretrained=True, **kwargs):
        calls.append(pretrained)
        made = original(name, pretrained=False, **kwargs)
        torch.nn.init.constant_(made.conv1.conv.weight, 0.5 if pretrained else 0.25)
        return made

    monkeypatch.setattr(models, 'build_model', recorded)
    model = build_model({**OSNET, 'pretrained': True}, TOKENS)
    assert calls == [False]
    model.init_weights()
    model.init_weights()
    assert calls == [False, True]
    assert (model.backbone.model.conv1.conv.weight == 0.5).all()
