"""Training images are changed a little, each in its own way, and stay the digit that they are."""

import numpy as np
import pytest

from firstcnn import augmentation, handwriting, strokes


def cross():
    """Return an image with a bright cross in its middle, 0 elsewhere."""
    image = np.zeros((28, 28), np.float32)
    image[6:22, 13:15] = image[13:15, 8:20] = 1
    return image


def distorted(count, seed=(0, 0)):
    images = np.repeat(cross()[None, :, :, None], count, axis=0)
    return np.asarray(augmentation.distort(images, seed))[..., 0]


def centres(images):
    places = np.arange(28) + 0.5
    mass = images.sum(axis=(1, 2))
    return np.stack([images.sum(axis=axis) @ places / mass for axis in (2, 1)], axis=1)


def test_every_image_is_changed_in_its_own_way():
    images = distorted(50)
    assert images.shape == (50, 28, 28)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1 + 1e-6
    assert len({image.tobytes() for image in images}) == 50


def test_the_same_seed_makes_the_same_changes():
    assert np.array_equal(distorted(5, (1, 2)), distorted(5, (1, 2)))
    assert not np.array_equal(distorted(5, (1, 2)), distorted(5, (1, 3)))


def test_a_digit_is_moved_only_so_far_and_both_ways():
    moved = centres(distorted(400)) - centres(cross()[None])
    # Stretching and leaning about the middle hardly move a symmetrical picture.
    assert np.abs(moved).max() < augmentation.SHIFT * np.exp(augmentation.SCALE) + 0.7
    assert moved.min(axis=0).max() < -1
    assert moved.max(axis=0).min() > 1


def test_strokes_become_thinner_and_thicker():
    mass = distorted(400).sum(axis=(1, 2)) / cross().sum()
    assert mass.min() < 0.8
    assert mass.max() > 1.3


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("SHIFT", 4, lambda images: np.abs(centres(images) - 14).max() > 3),
        ("SCALE", 0.5, lambda images: max(handwriting.crop(i, 0.5).shape[0] for i in images) > 20),
        ("ROTATION", 1.5, lambda images: max(i[13:15, 6:8].sum() for i in images) > 1),
        ("SHEAR", 1.0, lambda images: max(handwriting.crop(i, 0.5).shape[1] for i in images) > 16),
        ("STROKE", (1, 1), lambda images: min(i.sum() for i in images) > 1.5 * cross().sum()),
    ],
)
def test_each_setting_does_what_it_says(monkeypatch, name, value, seen):
    for other, none in [("SHIFT", 0), ("SCALE", 0), ("ROTATION", 0), ("SHEAR", 0)]:
        monkeypatch.setattr(augmentation, other, none)
    monkeypatch.setattr(augmentation, "STROKE", (0, 0))
    still = distorted(100)
    assert np.allclose(still, cross(), atol=1e-5)
    assert not seen(still)
    monkeypatch.setattr(augmentation, name, value)
    assert seen(distorted(100))


@pytest.fixture(scope="module")
def ones():
    return np.stack(
        [
            handwriting.prepare(strokes.draw(1, style=1, size=180, width=12, seed=seed))
            for seed in range(40)
        ]
    )


def test_only_ones_get_a_flag_and_only_their_share(ones):
    labels = np.repeat([1, 7], 20)
    changed = (augmentation.flag_ones(ones, labels, share=0.5) != ones).any(axis=(1, 2))
    assert not changed[20:].any()
    assert 4 < changed[:20].sum() < 16
    assert not (augmentation.flag_ones(ones, labels, share=0) != ones).any()
    assert (augmentation.flag_ones(ones, labels, share=1) != ones).any(axis=(1, 2))[:20].all()


def test_a_flag_stands_at_the_left_of_the_stem_and_the_one_is_as_mnist_places_it(ones):
    kept = ones.copy()
    flagged = augmentation.flag_ones(ones, np.ones(40, int), share=1, seed=3)
    assert np.array_equal(ones, kept)
    assert ones[:, 4:19, :12].max() < 0.01
    assert flagged.dtype == np.float32
    for image in flagged:
        assert max(handwriting.crop(image).shape) == 20
        mass = [float(np.average(i, weights=image)) for i in np.indices((28, 28))]
        assert np.abs(np.array(mass) - 14).max() <= 0.5 + 1e-4
        stem = round(np.average(np.arange(28), weights=image[20]))
        assert image[4:19, : stem - 2].sum() > 0.3, "no flag"
        assert image[4:19, stem + 3 :].sum() < 0.5, "a flag at the right"


def test_a_share_that_is_none_is_refused(ones):
    with pytest.raises(ValueError, match=r"share is 1\.5: give a number from 0 to 1"):
        augmentation.flag_ones(ones, np.ones(40, int), share=1.5)


def test_an_image_without_a_clear_stem_is_left_alone():
    dot = np.zeros((1, 28, 28), np.float32)
    dot[0, 12:16, 12:16] = 1
    assert np.array_equal(augmentation.flag_ones(dot, np.array([1]), share=1), dot)
