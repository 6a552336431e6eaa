"""Random crops of CUB and Flowers (A.3): where they are cut, from what, and that no other format sees any of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from rasa.config.run import Data
from rasa.data.loader import TrainingLoader
from rasa.data.transforms import Crops, enlarged, normalise, two_views
from tests.helpers.ten_images import SPLIT, TOKENIZER

SIZE = (14, 28)  # from images of 16 x 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images of noise, each another, already of the enlarged size."""
    root = tmp_path_factory.mktemp("imgs")
    for image in range(10):
        pixels = np.random.default_rng(image).integers(0, 256, (16, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{image}.png")
    return root


def loader(folder, format="cub", seed=0):
    data = Data(root=folder, format=format, image_size=SIZE)
    return TrainingLoader(SPLIT, folder, TOKENIZER, data, "uniform", 0.1, "identity", "caption", True, 6, None, seed)


def test_enlarged_by_hand():
    """8/7 of 224 is 256, of 384 it is 438.86, of 14 and 28 it is 16 and 32."""
    assert enlarged((224, 384)) == (256, 439) and enlarged(SIZE) == (16, 32)


def test_views_are_cut_where_the_corners_say():
    """Rows of 0, 1, 2, ...: view 1 of image 0 from its corner (1, 0), view 2 from (0, 2), mirrored."""
    images = torch.arange(12, dtype=torch.uint8).view(1, 1, 3, 4).expand(2, 3, 3, 4).contiguous()
    corners = torch.tensor([[[1, 0], [0, 0]], [[0, 2], [1, 1]]])
    flip = torch.tensor([[False, False], [True, False]])
    one, two = two_views(images, flip, Crops(corners, 2, 2))
    first = torch.tensor([[[4, 5], [8, 9]], [[0, 1], [4, 5]]], dtype=torch.uint8)
    second = torch.tensor([[[3, 2], [7, 6]], [[5, 6], [9, 10]]], dtype=torch.uint8)
    for view, expected in ((one, first), (two, second)):
        assert torch.equal(view, normalise(expected[:, None].expand(-1, 3, -1, -1), torch.zeros(2, dtype=torch.bool)))


def test_batches_carry_their_crops(folder):
    batch = next(loader(folder).epoch(0))
    assert batch.images.shape == (6, 3, 16, 32) and batch.crops.corners.shape == (2, 6, 2)
    assert (batch.crops.height, batch.crops.width) == SIZE
    views = two_views(batch.images, batch.flip, batch.crops)
    assert [tuple(view.shape) for view in views] == [(6, 3, *SIZE)] * 2
    assert not torch.equal(*views)


def test_corners_are_uniform_over_the_room(folder):
    """Tops 0, 1, 2 of 16 - 14 rows, lefts 0 to 4; each a third and a fifth of the 20 x 60 x 2 draws,
    give or take 0.05."""
    corners = torch.cat([b.crops.corners.flatten(0, 1) for e in range(60) for b in loader(folder).epoch(e)])
    for column, values in ((0, 3), (1, 5)):
        shares = corners[:, column].bincount(minlength=values) / len(corners)
        assert len(shares) == values and (shares - 1 / values).abs().max() < 0.05


def test_crops_belong_to_seed_epoch_and_sample(folder):
    def corners(seed, epoch):
        batches = list(loader(folder, seed=seed).epoch(epoch))
        return torch.cat([batch.crops.corners for batch in batches], 1)

    assert torch.equal(corners(0, 1), corners(0, 1))
    assert not torch.equal(corners(0, 1), corners(0, 2)) and not torch.equal(corners(0, 1), corners(1, 1))


def test_no_other_format_is_cropped_and_no_other_draw_moves(folder):
    plain, cropped = (next(loader(folder, format).epoch(3)) for format in ("cuhk-pedes", "flowers"))
    assert plain.crops is None and plain.images.shape[2:] == SIZE
    assert torch.equal(plain.flip, cropped.flip) and torch.equal(plain.identity, cropped.identity)
    assert torch.equal(plain.matched.ids, cropped.matched.ids)
