"""Near-duplicate images by perceptual hash, found without comparing each with each."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from forgerank.data.groups import connected
from forgerank.types import SPLITS, Image

BITS = 64
THUMBNAIL = 32  # side, pixels
_SPREAD = 48.0  # grey levels: the standard deviation at which thumbnails are compared, usual for faces
_PARTNERS = 100  # earlier images that one is compared with in each band: bounds a cluster's cost
_EARLIEST = 4096  # images of a band that the others in it are compared with: bounds it as well
_OUTSIDE = 0.75  # of the difference allowed: around a face there is less to differ in
_BATCH = 2048  # pairs of thumbnails at a time
_CELLS = 1 << 18  # of a comparison at a time: bounds its memory
_FLAT = 2.0  # grey levels: an image with less contrast has no hash that means anything
_PLAIN = 8.0  # grey levels: a thumbnail, or what surrounds the face, is meaningless with less contrast
_ONES = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)


Hashes = NDArray[np.uint64]


def _surroundings() -> NDArray[np.bool_]:
    """Cells of a thumbnail outside the face, (K,)."""
    y, x = np.mgrid[:THUMBNAIL, :THUMBNAIL] + 0.5
    half = THUMBNAIL / 2
    inside = ((x - half) / (0.69 * half)) ** 2 + ((y - 1.1 * half) / (0.81 * half)) ** 2 < 1
    return np.asarray(~inside.ravel())


_AROUND = _surroundings()


def perceptual_hash(image: Image) -> int | None:
    """64 bits that a resize or another compression hardly changes; None for a flat image."""
    import imagehash

    pil = PILImage.fromarray(image).convert("L")
    if np.asarray(pil.resize((32, 32), PILImage.Resampling.BOX)).std() < _FLAT:
        return None
    return int(str(imagehash.phash(pil)), 16)


class Duplicate(NamedTuple):
    """One image to be left out of joined data sets, and why."""

    kept: int | None  # position of the image that stays for it; None where none does
    dropped: int  # position of the image that goes
    bits: int  # of 64 in which the two hashes differ
    difference: float  # of the two thumbnails, grey levels
    reason: str  # one of REASONS


REASONS = {
    "both labels": "one image is real here and forged there",
    "in validation": "the validation set shows the same photograph",
    "in test": "the test set shows the same photograph",
    "group in validation": "of a group that shares a photograph with one of the validation set",
    "group in test": "of a group that shares a photograph with one of the test set",
    "repeated": "an earlier image of the same split is the same",
}


class _Link(NamedTuple):
    """Two images that are near to each other."""

    other: int
    bits: int
    difference: float
    same: bool  # the same image; else the same photograph with other pixels inside the face


_Key = tuple[str, str]  # source and group


def thumbnail(crop: Image) -> NDArray[np.uint8]:
    """What `find_duplicates` compares of an aligned face: (THUMBNAIL, THUMBNAIL) grey levels."""
    image = PILImage.fromarray(crop).convert("L")
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), PILImage.Resampling.BOX))


def find_duplicates(
    hashes: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    sources: Sequence[str],
    groups: Sequence[str],
    splits: Sequence[str],
    forged: Sequence[bool],
    *,
    distance: int = 6,
    difference: float = 5.0,
) -> list[Duplicate]:
    """The images to leave out where N images of several data sets are used together, in their order.

    hashes (N,): `perceptual_hash` of the aligned faces, of anything for flat ones, which match no image.
    thumbnails (N, 32, 32): `thumbnail` of the same. sources, groups, splits, forged: of each image the data
    set, the group within it, one of SPLITS, and its label.

    Two images are the same where their hashes differ in at most `distance` bits and their thumbnails, brought
    to one mean and spread, by at most `difference` grey levels on average. Where only what surrounds the face
    differs by so little, they are one photograph: a forgery and its source. Images of one group of one source
    are never compared: frames of a video, forgeries of a photograph. Of the others

    1. both go where one image is real and forged, within half of `difference`: a skilful forgery differs
       from its source by more, and both are of use;
    2. groups that share a photograph are one: of those in several splits only the images of test stay or,
       without any there, of val;
    3. an image goes where an earlier one of the same label and split is the same.

    In a cluster of hundreds of near-equal images the earliest stand for all.

    Raises ValueError for lengths that differ and for an unknown split.
    """
    count = len(hashes)
    if any(len(values) != count for values in (thumbnails, sources, groups, splits, forged)):
        raise ValueError("expected as many hashes, thumbnails, sources, groups, splits and labels")
    if unknown := set(splits) - set(SPLITS):
        raise ValueError(f"splits must be of {', '.join(SPLITS)}, got {', '.join(sorted(unknown))}")
    if not count:
        return []
    keys = list(zip(sources, groups, strict=True))
    labels = [bool(value) for value in forged]
    ranks = [SPLITS.index(split) for split in splits]
    near = _neighbours(hashes, thumbnails.reshape(count, -1), keys, distance, difference)
    found = _both_labels(near, keys, labels, difference / 2)
    found |= _across_splits(near, keys, ranks, found)
    repeated = _repeated(near, keys, labels, ranks, found)
    for place, duplicate in found.items():
        if duplicate.kept in repeated:
            found[place] = duplicate._replace(kept=repeated[duplicate.kept].kept)
    found |= repeated
    return [found[place] for place in sorted(found)]


class _Near(NamedTuple):
    """Which images are near to which. Images of equal hash and thumbnail are one image."""

    image: dict[int, int]  # of each image that is near to one of another group
    members: dict[int, list[int]]  # images of each such image, in order
    links: dict[int, list[_Link]]  # of each such image, nearest first, itself among them


def _neighbours(
    hashes: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
    keys: Sequence[_Key],
    distance: int,
    difference: float,
) -> _Near:
    members: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for place in np.flatnonzero(_spreads(thumbnails) >= _PLAIN).tolist():
        members[int(hashes[place]), thumbnails[place].tobytes()].append(place)
    images = list(members.values())
    if not images:
        return _Near({}, {}, {})
    first = np.array([places[0] for places in images])
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    owners = np.array(
        [numbers[keys[places[0]]] if len({keys[place] for place in places}) == 1 else -1 for places in images]
    )
    links: dict[int, list[_Link]] = {
        number: [_Link(number, 0, 0.0, same=True)] for number in np.flatnonzero(owners < 0).tolist()
    }
    pairs = _near_pairs(hashes[first], owners, distance)
    for one, other, bits, differ, same in _confirm(pairs, hashes[first], thumbnails[first], difference):
        for here, there in ((one, other), (other, one)):
            links.setdefault(here, [_Link(here, 0, 0.0, same=True)]).append(_Link(there, bits, differ, same))
    for found in links.values():
        found.sort(key=lambda link: (link.bits, link.difference, link.other))
    kept = {number: images[number] for number in sorted(links)}
    return _Near({place: number for number, places in kept.items() for place in places}, kept, links)


def _spreads(rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standard deviation of each row (N, K), without a copy of all as fractions."""
    parts = [rows[start : start + _BATCH].std(axis=1) for start in range(0, len(rows), _BATCH)]
    return np.concatenate(parts)


def _near_pairs(hashes: Hashes, owners: NDArray[np.int64], distance: int) -> NDArray[np.int64]:
    """Pairs (P, 2) of positions, the earlier first, of near hashes; none of one owner, -1 being several."""
    found = [np.empty(0, dtype=np.int64)]
    for keys in _band_keys(hashes, distance + 1):
        for members in _runs(keys):
            values, owner = hashes[members], owners[members]
            rows = max(1, _CELLS // min(len(members), _EARLIEST))
            for start in range(0, len(members), rows):
                end = min(start + rows, len(members))
                stop = min(end, _EARLIEST)
                near = _differing(values[start:end, None], values[None, :stop]) <= distance  # (R, M)
                near &= np.arange(start, end)[:, None] > np.arange(stop)[None, :]
                near &= (owner[start:end, None] != owner[None, :stop]) | (owner[start:end, None] < 0)
                if near.any():
                    near &= near.cumsum(axis=1) <= _PARTNERS
                    later, earlier = np.nonzero(near)
                    found.append(members[earlier] * len(hashes) + members[start + later])
    return np.stack(np.divmod(np.unique(np.concatenate(found)), len(hashes)), axis=1)


def _confirm(
    pairs: NDArray[np.int64], hashes: Hashes, thumbnails: NDArray[np.uint8], difference: float
) -> Iterator[tuple[int, int, int, float, bool]]:
    """Of pairs of images those of one photograph: bits, grey levels, and whether the image is the same."""
    images, places = np.unique(pairs, return_inverse=True)
    whole, around = _scaled(thumbnails[images]), _scaled(thumbnails[images][:, _AROUND])
    for start in range(0, len(pairs), _BATCH):
        one, other = places.reshape(pairs.shape)[start : start + _BATCH].T
        differ = np.abs(whole[one] - whole[other]).mean(axis=1)
        outside = np.abs(around[one] - around[other]).mean(axis=1)
        bits = _differing(hashes[images[one]], hashes[images[other]])
        # A plain surrounding is not a number, and near to none.
        for place in np.flatnonzero((differ <= difference) | (outside <= _OUTSIDE * difference)).tolist():
            levels = float(differ[place])
            yield (
                *(int(images[one[place]]), int(images[other[place]]), int(bits[place])),
                *(round(levels, 3), levels <= difference),
            )


def _scaled(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels (P, K) brought to mean 0 and spread `_SPREAD`; not a number for plain ones."""
    values = rows.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    spread = values.std(axis=1, keepdims=True)
    return np.asarray(
        values * np.where(spread < _PLAIN, np.nan, _SPREAD / np.maximum(spread, _PLAIN)).astype(np.float32)
    )


def _both_labels(
    near: _Near, keys: Sequence[_Key], labels: Sequence[bool], difference: float
) -> dict[int, Duplicate]:
    """Rule 1."""
    # Two groups per image and label answer for all: one of them is another one than that of the image.
    witnesses: dict[int, dict[bool, dict[_Key, int]]] = {}
    for number, places in near.members.items():
        witnesses[number] = {True: {}, False: {}}
        for place in places:
            seen = witnesses[number][labels[place]]
            if len(seen) < 2:
                seen.setdefault(keys[place], place)
    found = {}
    for place, number in near.image.items():
        for link in near.links[number]:
            if link.difference > difference:
                continue
            if witnesses[link.other][not labels[place]].keys() - {keys[place]}:
                found[place] = Duplicate(None, place, link.bits, link.difference, "both labels")
                break
    return found


def _across_splits(
    near: _Near, keys: Sequence[_Key], ranks: Sequence[int], gone: dict[int, Duplicate]
) -> dict[int, Duplicate]:
    """Rule 2."""
    joined = _joined_groups(near, keys)
    sets: dict[_Key, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        if key in joined and place not in gone:
            sets[joined[key]].append(place)
    top = {root: max(ranks[place] for place in places) for root, places in sets.items()}
    closest: dict[_Key, tuple[int, float]] = {}  # link of each group to another one
    for place, number in near.image.items():
        for link in near.links[number]:
            if any(keys[other] != keys[place] for other in near.members[link.other]):
                nearest = link.bits, link.difference
                closest[keys[place]] = min(closest.get(keys[place], nearest), nearest)
                break
    found = {}
    for root, places in sets.items():
        staying = [place for place in places if ranks[place] == top[root]]
        stands = next((place for place in staying if place in near.image), staying[0])
        split = {"val": "validation"}.get(SPLITS[top[root]], SPLITS[top[root]])
        shown: dict[int, list[int]] = defaultdict(list)  # images that stay, by image
        for place in staying:
            if place in near.image:
                shown[near.image[place]].append(place)
        for place in places:
            if ranks[place] == top[root]:
                continue
            direct = (
                (link, other)
                for link in near.links.get(near.image.get(place, -1), ())
                for other in shown.get(link.other, ())
                if keys[other] != keys[place]
            )
            for link, other in direct:
                found[place] = Duplicate(other, place, link.bits, link.difference, f"in {split}")
                break
            else:
                bits, differ = closest[keys[place]]
                found[place] = Duplicate(stands, place, bits, differ, f"group in {split}")
    return found


def _joined_groups(near: _Near, keys: Sequence[_Key]) -> dict[_Key, _Key]:
    """For each group that shares a photograph with another one, the least of the connected groups."""
    return connected(
        [keys[place] for place in (*near.members[number], *(near.members[link.other][0] for link in links))]
        for number, links in near.links.items()
    )


def _repeated(
    near: _Near,
    keys: Sequence[_Key],
    labels: Sequence[bool],
    ranks: Sequence[int],
    gone: dict[int, Duplicate],
) -> dict[int, Duplicate]:
    """Rule 3."""
    found: dict[int, Duplicate] = {}
    staying: dict[tuple[int, bool, int], dict[_Key, int]] = defaultdict(dict)  # by image, label, split
    for place in sorted(near.image.keys() - gone.keys()):
        kind = labels[place], ranks[place]
        for link in near.links[near.image[place]]:
            earlier = staying.get((link.other, *kind), {}) if link.same else {}
            other = next((other for key, other in earlier.items() if key != keys[place]), None)
            if other is not None:
                found[place] = Duplicate(other, place, link.bits, link.difference, "repeated")
                break
        else:
            staying[near.image[place], *kind].setdefault(keys[place], place)
    return found


def nearest_earlier(
    hashes: Sequence[int], ranks: Sequence[int], *, distance: int
) -> dict[int, tuple[int, int]]:
    """For each image the nearest one of a lower rank, where one differs in at most `distance` of 64 bits.

    Returns position -> (position of the nearest, bits that differ). Two hashes that differ in d bits are
    equal in at least one of d + 1 bands of bits, so only those that share a band are compared.
    """
    if not hashes:
        return {}
    pairs = np.array([ranks, hashes], dtype=np.uint64)  # (2, N)
    nodes, first, inverse = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
    order, values = nodes[0].astype(np.int64), nodes[1]
    best = np.full(len(values), BITS + 1)
    partner = np.zeros(len(values), dtype=np.int64)
    for keys in _band_keys(values, distance + 1):
        for members in _runs(keys):
            _compare(members, values, order, best, partner)
    return {
        place: (int(first[partner[node]]), int(best[node]))
        for place, node in enumerate(inverse.ravel().tolist())
        if best[node] <= distance
    }


def _band_keys(values: Hashes, count: int) -> Iterator[Hashes]:
    """Of each of `count` bands its bits, (N,). Neighbouring bits go to different bands: they are alike."""
    for start in range(count):
        keys = np.zeros_like(values)
        for bit in range(start, BITS, count):
            keys = (keys << np.uint64(1)) | ((values >> np.uint64(bit)) & np.uint64(1))
        yield keys


def _runs(keys: Hashes) -> list[NDArray[np.int64]]:
    """Positions of equal keys, for keys that occur more than once."""
    order = np.argsort(keys, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    return [run for run in runs if len(run) > 1]


def _compare(
    members: NDArray[np.int64],
    values: Hashes,
    order: NDArray[np.int64],
    best: NDArray[np.int64],
    partner: NDArray[np.int64],
) -> None:
    """Bring `best` and `partner` up to date for members that may be near to each other."""
    rows_at_once = max(1, _CELLS // len(members))
    for start in range(0, len(members), rows_at_once):
        rows = members[start : start + rows_at_once]
        counts = _differing(values[rows][:, None], values[members][None, :]).astype(np.int64)  # (R, M)
        counts[order[rows][:, None] <= order[members][None, :]] = BITS + 1
        nearest = counts.argmin(axis=1)
        found = counts[np.arange(len(rows)), nearest]
        better = found < best[rows]
        best[rows[better]] = found[better]
        partner[rows[better]] = members[nearest[better]]


def _differing(one: Hashes, other: Hashes) -> NDArray[np.uint8]:
    """How many bits differ, of hashes of shapes that broadcast."""
    changed = np.ascontiguousarray(one ^ other)
    words = changed.view(np.uint16).reshape(*changed.shape, 4)
    return np.asarray(
        _ONES[words[..., 0]] + _ONES[words[..., 1]] + _ONES[words[..., 2]] + _ONES[words[..., 3]]
    )
