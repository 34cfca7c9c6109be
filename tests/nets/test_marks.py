"""Where the simulated user puts the marks, and what MGU-Net and the ellipse make of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.nets.classical.ellipse import EllipseMarks, ellipse_through
from medseg.nets.thyroid.marks import AxisMarks, axis_end_points
from medseg.nets.thyroid.mgunet import MGUNet
from medseg.nets.unet import UNet

SMALL = [8, 16, 32]
EXACT = AxisMarks(deviation=0.0, dropout=0.0)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def ellipse(size: int, centre: tuple[float, float], a: float, b: float, angle: float) -> np.ndarray:
    offsets = np.stack(np.indices((size, size)), -1) - np.array(centre)
    along = offsets @ [np.sin(angle), np.cos(angle)]
    across = offsets @ [np.cos(angle), -np.sin(angle)]
    return (along / a) ** 2 + (across / b) ** 2 <= 1


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@given(
    a=st.floats(20, 50), ratio=st.floats(0.4, 0.85), angle=st.floats(0, np.pi),
    row=st.floats(60, 68), column=st.floats(60, 68),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_marks_of_an_ellipse_are_its_vertices(a: float, ratio: float, angle: float, row: float, column: float) -> None:
    b = ratio * a
    marks = EXACT.prompt(ellipse(128, (row, column), a, b, angle).astype(np.uint8), rng(), jitter=False)
    long, short = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    centre = np.array([row, column])
    for pair, vertices in ((marks[:2], (centre - a * long, centre + a * long)),
                           (marks[2:], (centre - b * short, centre + b * short))):  # fmt: skip
        distances = np.linalg.norm(pair[:, None] - np.array(vertices), axis=-1)
        assert min(distances[0, 0] + distances[1, 1], distances[0, 1] + distances[1, 0]) / 2 <= 1.5
        assert distances.min(axis=1).max() <= 1.5


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_marks_of_any_blob_lie_on_its_boundary(seed: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((48, 48)), 4)
    mask = noise > np.quantile(noise, 0.8)
    marks = EXACT.prompt(mask.astype(np.uint8), rng(), jitter=False)
    _, regions = ndimage.label(mask, structure=np.ones((3, 3)))
    assert len(marks) == 4 * regions
    border = mask & ~ndimage.binary_erosion(mask, border_value=0)
    distance = ndimage.distance_transform_edt(~border)
    assert distance[tuple(marks.round().astype(int).T)].max() <= 1


def test_each_region_of_each_class_gets_its_own_marks() -> None:
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[2:8, 2:12], mask[20:35, 20:26], mask[20:35, 26:30], mask[0, 30:40] = 1, 1, 2, 255
    marks = EXACT.prompt(mask, rng(), jitter=False)
    assert marks.shape == (12, 2)
    labels = mask[tuple(marks.astype(int).T)]
    assert labels.tolist() == [1] * 8 + [2] * 4


def test_tiny_and_empty_masks() -> None:
    mask = np.zeros((9, 9), dtype=np.uint8)
    assert EXACT.prompt(mask, rng(), jitter=False).shape == (0, 2)
    mask[4, 7] = 1
    assert EXACT.prompt(mask, rng(), jitter=False).tolist() == [[4, 7]] * 4


def test_marks_do_not_depend_on_the_sign_of_an_eigenvector(monkeypatch: pytest.MonkeyPatch) -> None:
    region = ellipse(64, (30, 33), 20, 9, 0.4)
    marks = axis_end_points(region)
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (eigh(matrix)[0], -eigh(matrix)[1]))
    assert np.array_equal(axis_end_points(region), marks)


def test_the_user_errs_by_two_pixels_at_256_while_training_only() -> None:
    user = AxisMarks(deviation=2.0, dropout=0.0)
    mask = ellipse(128, (64, 64), 30, 20, 0.3).astype(np.uint8)
    exact = user.prompt(mask, rng(), jitter=False)
    draw = rng()
    errors = np.concatenate([user.prompt(mask, draw, jitter=True) - exact for _ in range(200)])
    assert errors.std() == pytest.approx(1.0, rel=0.1)  # 128 is half of 256
    assert np.array_equal(user.prompt(mask, rng(), jitter=False), exact)
    assert np.array_equal(user(mask, rng(), jitter=True), user.prompt(mask, rng(), jitter=True))


def test_the_user_stays_in_the_image_and_sometimes_forgets() -> None:
    mask = np.ones((32, 32), dtype=np.uint8)
    points = AxisMarks(deviation=40.0, dropout=0.0).prompt(mask, rng(), jitter=True)
    assert points.min() >= 0
    assert points.max() <= 31
    draw, forgetful = rng(), AxisMarks(dropout=0.5)
    forgotten = [len(forgetful.prompt(mask, draw, jitter=True)) == 0 for _ in range(200)]
    assert 0.35 < np.mean(forgotten) < 0.65
    assert len(AxisMarks(dropout=1.0).prompt(mask, rng(), jitter=False)) == 4


def test_a_user_who_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"deviation=-1.*must be >= 0"):
        AxisMarks(deviation=-1)
    with pytest.raises(ConfigError, match=r"dropout=1\.5 within 0\.\.1"):
        AxisMarks(dropout=1.5)


def test_painted_discs_are_white_have_their_area_and_leave_the_rest() -> None:
    net = MGUNet(in_channels=2, num_classes=2, widths=SMALL)
    image = torch.randn(2, 2, 256, 200)
    marked = net.mark(image, [np.array([[100.0, 50.0], [20.0, 150.0]]), np.zeros((0, 2))])
    changed = (marked != image)[0].any(0)
    assert changed.sum() == 2 * 29  # lattice points within 3 of the origin
    assert changed[100, 53]
    assert not changed[100, 54]
    assert marked[0, :, 100, 50].tolist() == [float(image[0].amax())] * 2
    assert torch.equal(marked[1], image[1])


def test_disc_radius_follows_the_image_size() -> None:
    net = MGUNet(in_channels=1, num_classes=2, widths=SMALL, white=4.0)
    areas = [
        int((net.mark(torch.zeros(1, 1, side, side), [np.array([[side / 2, side / 2]])]) == 4).sum())
        for side in (64, 128, 256, 512)
    ]
    assert areas == [1, 9, 29, 113]


def test_marks_can_have_a_channel_of_their_own() -> None:
    point = [np.array([[10.0, 20.0]])]
    image = torch.randn(1, 1, 256, 256)
    apart = MGUNet(in_channels=1, num_classes=2, widths=SMALL, mark_mode="channel").mark(image, point)
    assert apart.shape == (1, 2, 256, 256)
    assert torch.equal(apart[:, :1], image)
    assert apart[0, 1].sum() == 29
    bell = MGUNet(in_channels=1, num_classes=2, widths=SMALL, mark_mode="bell").mark(image, point)[0, 1]
    assert bell[10, 20] == 1
    assert float(bell[10, 25]) == pytest.approx(np.exp(-0.5), abs=1e-6)


def test_a_distance_map_says_how_far_the_nearest_mark_is_in_longer_sides() -> None:
    net = MGUNet(in_channels=1, num_classes=2, widths=SMALL, mark_mode="distance").eval()
    image = torch.randn(2, 1, 40, 50)
    points = np.array([[10.0, 20.0], [30.5, 4.0]])
    marked = net.mark(image, [points, np.zeros((0, 2))])
    assert marked.shape == (2, 2, 40, 50)
    assert torch.equal(marked[:, :1], image)
    rows, columns = np.indices((40, 50))
    wanted = np.min([np.hypot(rows - row, columns - column) for row, column in points], axis=0) / 50
    np.testing.assert_allclose(marked[0, 1].numpy(), wanted, atol=1e-6)
    assert torch.equal(marked[1, 1], torch.ones(40, 50)), "no mark is anywhere near"
    with torch.no_grad():
        assert torch.equal(net(image), net(net.mark(image, [np.zeros((0, 2))] * 2)))


def test_without_marks_it_is_the_plain_unet() -> None:
    net = MGUNet(in_channels=1, num_classes=2, widths=SMALL).eval()
    plain = UNet(in_channels=1, num_classes=2, widths=SMALL).eval()
    plain.load_state_dict(net.unet.state_dict())
    image = torch.randn(2, 1, 30, 34)
    assert torch.equal(net(net.mark(image, [np.zeros((0, 2))] * 2)), plain(image))
    assert torch.equal(net(image), plain(image))


def test_unmarked_images_in_channel_mode_have_an_empty_channel() -> None:
    net = MGUNet(in_channels=1, num_classes=2, widths=SMALL, mark_mode="channel").eval()
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(net(image), net.unet(torch.cat([image, torch.zeros_like(image)], 1)))


def test_mgunet_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ConfigError, match=r"net\.mark_mode='cross'.*paint, channel, bell, distance"):
        MGUNet(in_channels=1, num_classes=2, widths=SMALL, mark_mode="cross")
    with pytest.raises(ConfigError, match=r"net\.radius=0.*above 0"):
        MGUNet(in_channels=1, num_classes=2, widths=SMALL, radius=0)


@pytest.mark.parametrize("angle", [0.0, 0.5, 1.2, 2.4])
def test_the_ellipse_of_an_ellipse_is_itself(angle: float) -> None:
    region = ellipse(128, (60, 66), 35, 22, angle)
    assert dice(ellipse_through(axis_end_points(region), (128, 128)), region) > 0.97


def test_ellipse_goes_through_the_modules_path_and_finds_every_nodule() -> None:
    truth = ellipse(96, (30, 30), 18, 12, 0.7) | ellipse(96, (70, 64), 14, 9, 2.0)
    net = EllipseMarks(in_channels=1, num_classes=3, prompt=EXACT)
    points = net.prompt.prompt(truth.astype(np.uint8), rng(), jitter=False)
    image = torch.randn(2, 1, 96, 96)
    labels = net(net.mark(image, [points, np.zeros((0, 2))])).argmax(1).numpy()
    assert dice(labels[0] == 1, truth) > 0.95
    assert not labels[1].any()
    assert not net(image).argmax(1).any()


def test_ellipse_needs_four_marks_a_nodule() -> None:
    net = EllipseMarks(in_channels=1, num_classes=2)
    with pytest.raises(ConfigError, match=r"got 3 marks.*needs 4 per nodule"):
        net.mark(torch.zeros(1, 1, 8, 8), [np.zeros((3, 2))])


def test_one_repeated_mark_is_a_dot() -> None:
    assert ellipse_through(np.array([[4.0, 5.0]] * 4), (9, 9)).sum() == 1
