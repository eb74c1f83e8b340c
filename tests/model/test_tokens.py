"""Tokens of a pyramid, and 2-D sine positions."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F

from forgerank.model.tokens import PatchTokens, sine_positions


def test_positions_are_unique_and_row_major() -> None:
    positions = sine_positions(3, 5, 16)
    assert positions.shape == (15, 16)
    distances = torch.cdist(positions, positions) + torch.eye(15)
    assert distances.min() > 0.1
    assert torch.equal(positions[0, :8], positions[4, :8])  # same y
    assert torch.equal(positions[1, 8:], positions[11, 8:])  # same x
    torch.testing.assert_close(positions[7, 0], torch.tensor(1.0).sin())  # y = 1 at the fastest rate


def test_positions_need_four_parts() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_positions(2, 2, 6)


def test_maps_are_pooled_after_the_pyramid_unless_told_otherwise() -> None:
    """The embedded weights were trained on this function, which stays to the last bit."""
    torch.manual_seed(0)
    maps = [torch.rand(2, channels, side, side) for channels, side in ((3, 16), (4, 8), (5, 4), (6, 2))]
    patches = PatchTokens([3, 4, 5, 6], pyramid_width=8, width=12)
    levels = list(patches.pyramid(OrderedDict((str(i), level) for i, level in enumerate(maps))).values())
    sizes = [F.avg_pool2d(levels[0], 4), F.avg_pool2d(levels[1], 2), levels[2]]
    sizes.append(F.interpolate(levels[3], size=(4, 4), mode="bilinear", align_corners=False))
    expected = F.normalize(patches.project(torch.stack(sizes).mean(dim=0)).flatten(2).mT, dim=-1)
    assert torch.equal(patches(maps, (4, 4)), expected)


def test_pooled_first_the_pyramid_sees_no_map_finer_than_the_tokens() -> None:
    patches = PatchTokens([3, 4, 5], pyramid_width=8, width=8, pool_first=True)
    sides: list[int] = []
    patches.pyramid.register_forward_pre_hook(
        lambda _, inputs: sides.extend(level.shape[2] for level in inputs[0].values())
    )
    patches([torch.rand(1, channels, side, side) for channels, side in ((3, 16), (4, 4), (5, 2))], (4, 4))
    assert sides == [4, 4, 2]
