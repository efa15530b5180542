"""Pictures of re-ID: rank lists, activation maps, features in the plane."""

import cv2
import numpy as np
import pytest
import torch
from people import FAMILIES, build_model

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.visualization.activations import activation_maps, overlay
from effvit_mm.visualization.feature_plot import draw_features, most_seen, project
from effvit_mm.visualization.pictures import GREEN, RED, read_rgb
from effvit_mm.visualization.rank_lists import (
    FRAME,
    HEIGHT,
    IN_A_ROW,
    WIDTH,
    Shown,
    caption,
    draw_rank_list,
    is_legible,
    save_rank_list,
    shortened,
)


@pytest.fixture(scope='module')
def crops(tmp_path_factory):
    """Plain images of different sizes: blue, green and red."""
    folder = tmp_path_factory.mktemp('crops')
    files = []
    for number, size in enumerate(((100, 40), (30, 60), (300, 150))):
        image = np.zeros((*size, 3), np.uint8)
        image[..., number] = 220
        files.append(folder / f'{number}.png')
        cv2.imwrite(str(files[-1]), image)
    return files


# --- Rank lists -------------------------------------------------------------------------------


def frames(picture):
    """Where the picture has a frame of each colour: columns of its middle rows."""
    row = picture[picture.shape[0] // 2]
    return {
        name: np.flatnonzero((row == color).all(1))
        for name, color in (('right', GREEN), ('wrong', RED))
    }


def test_a_rank_list_frames_right_and_wrong(crops):
    query = Shown(crops[0], caption(3, 0))
    ranked = [
        Shown(crops[1], caption(3, 1), True),
        Shown(crops[2], caption(7, 2), False),
        Shown(crops[0], caption(7, 2), False),
    ]
    picture = draw_rank_list(query, ranked)
    found = frames(picture)
    assert len(found['right']) == 2 * FRAME and len(found['wrong']) == 4 * FRAME
    assert found['right'].max() < found['wrong'].min()
    assert picture.shape[1] > 4 * (WIDTH + 2 * FRAME)


def test_a_long_rank_list_has_rows(crops):
    query, found = Shown(crops[0], ['query']), [Shown(crops[1], ['a', 'b'], True)] * 13
    whole, first = draw_rank_list(query, found), draw_rank_list(query, found[:IN_A_ROW])
    height, width = first.shape[:2]
    assert whole.shape == (2 * height, width, 3)
    np.testing.assert_array_equal(whole[:height], first)
    below = whole[height:]
    cell = WIDTH + 2 * FRAME
    images = frames(below)['right']
    assert len(images) == 3 * 2 * FRAME  # in the first places, and nothing else
    assert (images == frames(first)['right'][: len(images)]).all()
    assert (below[:, : images.min()] == 255).all() and images.min() > cell
    assert (below[:, images.max() + 1 :] == 255).all()
    assert draw_rank_list(query, []).shape[0] < height  # 'query' alone is a row, too


def test_images_of_any_shape_keep_their_proportions(crops):
    picture = draw_rank_list(Shown(crops[1], []), [Shown(crops[2], [], True)])
    green = (picture == (0, 220, 0)).all(2)  # 30 x 60
    height, width = np.ptp(np.flatnonzero(green.any(1))), np.ptp(np.flatnonzero(green.any(0)))
    assert (height + 1, width + 1) == (WIDTH // 2, WIDTH)
    blue_of_file = (picture == (220, 0, 0)).all(2)  # 300 x 150, fitted by its height
    assert np.ptp(np.flatnonzero(blue_of_file.any(1))) + 1 == HEIGHT


@pytest.mark.parametrize(
    'arguments, lines',
    [
        ((12, 0), ['person 12', 'camera 1']),
        ((12, 1, ('hall', 'yard')), ['person 12', 'camera yard']),
        ((12, 0, ('cam a',)), ['person 12', 'cam a']),
        ((0, 5, ('hall',)), ['person 0', 'camera 6']),
        ((-1, -1), []),
    ],
)
def test_captions_name_person_and_camera(arguments, lines):
    assert caption(*arguments) == lines


def test_captions_that_would_be_written_small_are_known():
    assert is_legible('camera 2 hall.mp4') and not is_legible('camera 2 entrance_north.mp4')


@pytest.mark.parametrize('name', ['0137_c1s1_000151_01.jpg', 'W' * 200, 'hall.jpg', 'a', ''])
def test_a_caption_loses_its_middle_until_it_can_be_read(name):
    text = shortened(name)
    assert is_legible(text)
    if is_legible(name):
        assert text == name
    else:
        left, right = text.split('...')
        assert left and right and name.startswith(left) and name.endswith(right)
        assert abs(len(left) - len(right)) <= 1
        assert not is_legible(f'{name[: len(left) + 1]}...{name[-len(right) - 1 :]}')


def test_a_broken_image_is_named_and_leaves_no_picture(crops, tmp_path):
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'no image')
    with pytest.raises(DataError, match=r'broken\.jpg'):
        save_rank_list(tmp_path / 'list.png', Shown(crops[0], []), [Shown(broken, [])])
    assert [path.name for path in tmp_path.iterdir()] == ['broken.jpg']
    save_rank_list(tmp_path / 'list.png', Shown(crops[0], []), [Shown(crops[1], [])])
    assert read_rgb(tmp_path / 'list.png').ndim == 3


# --- Activation maps --------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['PSLT', 'Castling-LeViT'])
def test_an_activation_map_adds_up_to_the_feature(name):
    """Of maps that are averaged: the mean over the cells is the feature's squared length."""
    backbone, pooling, _ = FAMILIES[name]
    model = build_model(backbone, pooling).eval()
    torch.nn.init.uniform_(model.neck.running_mean, -0.2, 0.2)
    torch.nn.init.uniform_(model.neck.running_var, 0.5, 2)
    images = torch.rand(2, 3, 96, 64)
    maps = activation_maps(model, images)
    with torch.no_grad():
        feature = model(images)
    torch.testing.assert_close(maps.mean((1, 2)), (feature**2).sum(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', ['DeiT', 'distilled', 'CrossViT', 'lightweight'])
def test_networks_with_class_tokens_have_maps_and_stay_as_they_are(name):
    backbone, pooling, _ = FAMILIES[name]
    model = build_model(backbone, pooling).eval()
    images = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        before = model(images)
    maps = activation_maps(model, images)
    assert maps.ndim == 3 and len(maps) == 2 and maps.isfinite().all() and maps.std() > 0
    with torch.no_grad():
        torch.testing.assert_close(model(images), before)


def test_strong_cells_are_red_and_weak_ones_blue():
    values = np.array([[-5.0, 0.0], [0.0, 2.0]])
    picture = overlay(np.full((40, 20, 3), 128, np.uint8), values)
    assert picture.shape == (40, 40, 3) and (picture[:, :20] == 128).all()
    red, blue = picture[-1, -1], picture[0, 20]
    assert red[0] > red[2] and blue[2] > blue[0]


# --- Features in the plane --------------------------------------------------------------------


def clusters(people=4, images=6, dim=16):
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(people, dim))
    pids = np.repeat(np.arange(people), images)
    lengths = generator.uniform(0.1, 10, (len(pids), 1))  # search ignores them
    return (centres[pids] + 0.05 * generator.normal(size=(len(pids), dim))) * lengths, pids


@pytest.mark.parametrize('method', ['pca', 'tsne'])
def test_people_stay_together_in_the_plane(method):
    features, pids = clusters()
    points = project(features, method)
    assert points.shape == (24, 2)
    same = max(np.ptp(points[pids == p], axis=0).max() for p in range(4))
    assert same < np.ptp(points, axis=0).max() / 3
    np.testing.assert_array_equal(points, project(features, method))


def test_the_people_with_most_images_are_chosen():
    pids = np.array([5, -1, 5, 2, 9, 9, 9, -1, -1, -1])
    assert most_seen(pids, 2).tolist() == [0, 2, 4, 5, 6]
    assert most_seen(pids[[1, 7]], 2).tolist() == []


@pytest.mark.parametrize('people', [4, 25])
def test_a_feature_picture_is_drawn(tmp_path, people):
    features, pids = clusters(people)
    path = tmp_path / 'plane.png'
    draw_features(features[:, :2], pids, np.arange(len(pids)) % 3, 'PCA', path)
    assert read_rgb(path).std() > 0


def test_what_cannot_be_projected_is_refused():
    with pytest.raises(ConfigError, match="method='umap'"):
        project(np.zeros((5, 3)), 'umap')
    with pytest.raises(DataError, match='2 features'):
        project(np.zeros((2, 3)), 'pca')
