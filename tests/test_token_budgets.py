"""Room for the tokens kept: dropped ones leave the graph's rows, and its numbers are PyTorch's."""

import pytest
import torch
from networks import VIT, deviation, images

from effvit_mm.backbones import VisionTransformer
from effvit_mm.errors import ConfigError
from effvit_mm.runtime import (
    DeployedNetwork,
    ExportError,
    OpenVINOSession,
    export_openvino,
    find_shapes,
    set_token_budgets,
    token_budgets,
)
from effvit_mm.runtime.graph import compare

SAMPLED = (1, 2, 3)


def network(kind='EAttention', depths=VIT['depths'], sampled=SAMPLED):
    torch.manual_seed(0)
    model = VisionTransformer(
        {**VIT, 'depths': depths}, {'type': kind}, sampled_blocks=sampled, out_type='cls_token'
    )
    for parameter in model.parameters():  # scores of a fresh network are all alike
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return DeployedNetwork(model)


def counts(deployed):
    """Tokens that each image kept in each block: ``(blocks, B)``."""
    return torch.stack(deployed.network.kept_tokens)


@pytest.mark.parametrize('kind', ['EAttention', 'SampledSoftmaxAttention'])
@torch.no_grad()
def test_images_within_the_budgets_are_unchanged(kind):
    deployed, x = network(kind), images(80, 112, batch=8)
    (want,) = deployed(x)
    kept = counts(deployed)
    assert set_token_budgets(deployed, x.split(3), share=1) == kept.amax(1).tolist()
    assert kept.amax() < 35 and token_budgets(deployed) == kept.amax(1).tolist()
    assert torch.equal(deployed(x)[0], want)


@pytest.mark.parametrize('kind', ['EAttention', 'SampledSoftmaxAttention'])
@torch.no_grad()
def test_images_above_lose_their_least_significant_tokens(kind):
    deployed, x = network(kind), images(80, 112, batch=8)
    (want,) = deployed(x)
    kept = counts(deployed)
    budgets = set_token_budgets(deployed, [x], share=0.5)
    (got,) = deployed(x)
    assert torch.equal(counts(deployed)[0], kept[0].clamp_max(budgets[0]))
    assert (counts(deployed) <= torch.tensor(budgets)[:, None]).all()
    within = (kept <= torch.tensor(budgets)[:, None]).all(0)
    assert 0 < within.sum() < 8
    torch.testing.assert_close(got[within], want[within])
    assert not torch.isclose(got[~within], want[~within]).all(1).any()


@pytest.mark.parametrize('batch', [1, 8])
@pytest.mark.parametrize('kind', ['EAttention', 'SampledSoftmaxAttention'])
@torch.no_grad()
def test_dropped_tokens_leave_the_graph(kind, batch):
    """Of every block the perceptron has rows for the class token and the budget alone."""
    deployed, x = network(kind), images(80, 112, batch=8)
    budgets = set_token_budgets(deployed, [x], share=0.5)
    graph = torch.export.export(deployed, (x[:batch],), strict=False)
    gelus = [node for node in graph.graph.nodes if 'gelu' in str(node.target)]
    assert [node.meta['val'].shape[1] for node in gelus] == [36, *(1 + n for n in budgets), 1]
    for part in x.split(batch):
        assert deviation(graph.module()(part), deployed(part)) < 1e-5


@torch.no_grad()
def test_openvino_gives_pytorchs_numbers_within_and_above_the_budgets(tmp_path):
    deployed, x = network(depths=(1, 1, 0, 1), sampled=(1, 2)), images(80, 112, batch=8)
    deployed(x)
    kept = counts(deployed)
    budgets = torch.tensor(set_token_budgets(deployed, [x], share=0.5))
    assert 0 < (kept <= budgets[:, None]).all(0).sum() < 8
    export_openvino(deployed, tmp_path / 'a.xml', (80, 112))
    session, want = OpenVINOSession(tmp_path / 'a.xml'), deployed(x)
    assert deviation([torch.from_numpy(a) for a in session(x)], want) < 1e-4
    for i in range(8):
        one = [torch.from_numpy(a) for a in session(x[i : i + 1])]
        assert deviation(one, [want[0][i : i + 1]]) < 1e-4


def test_a_file_tells_its_budgets():
    deployed = network()
    assert 'token_budgets' not in deployed.metadata(None) and len(deployed.notes()) == 1
    budgets = set_token_budgets(deployed, [images(80, 112)])
    assert deployed.metadata(None)['token_budgets'] == ' '.join(map(str, budgets))
    assert not deployed.notes()


def test_budgets_refuse():
    deployed = network()
    with pytest.raises(ConfigError, match='images: there are none'):
        set_token_budgets(deployed, [])
    with pytest.raises(ConfigError, match=r'share=1\.5: above 0 and up to 1'):
        set_token_budgets(deployed, [images(80, 112)], share=1.5)
    plain = DeployedNetwork(VisionTransformer(VIT))
    with pytest.raises(ConfigError, match='no block that drops tokens'):
        set_token_budgets(plain, [images(80, 112)])


@pytest.mark.parametrize(('kind', 'wrong', 'passes'), [
    ('EAttention', 1, True), ('EAttention', 99, False), ('SoftmaxAttention', 1, False),
])  # fmt: skip
@torch.no_grad()
def test_an_image_on_the_edge_ends_no_export_of_a_network_that_drops_tokens(kind, wrong, passes):
    """Rounding decides there, for that image; a graph that is wrong is wrong for all."""
    deployed = network(kind) if kind == 'EAttention' else DeployedNetwork(VisionTransformer(VIT))
    seen = []

    def run(x):
        seen.append(x)
        return [output.numpy() + (len(seen) <= wrong) for output in deployed(x)]

    shapes = find_shapes(deployed, (80, 112), any_size=False)
    if passes:
        checks = compare(run, deployed, shapes)
        assert [check.batch for check in checks] == [2, 1, 3] and len(seen) == 4
        assert not torch.equal(seen[0], seen[1])
    else:
        with pytest.raises(ExportError, match='differs from PyTorch'):
            compare(run, deployed, shapes)
