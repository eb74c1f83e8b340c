"""Groups of videos and images that share people, and connected components in general."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from forgerank.types import InputError

T = TypeVar("T", bound=Hashable)

# A forged video shows two people. "connected": all people whom videos connect, over any number of videos, are
# one group, so that groups share nobody; where all are connected that leaves one group, useless for a
# confidence interval over groups. "target": the person whose video was manipulated alone.
Grouping = Literal["connected", "target"]


def group_people(videos: Iterable[Sequence[str]], how: Grouping = "connected") -> dict[tuple[str, ...], str]:
    """The group of every video by its people, the first being the target.

    >>> group_people([("a",), ("a", "b"), ("c", "d"), ("b",)])
    {('a',): 'a', ('a', 'b'): 'a', ('c', 'd'): 'c', ('b',): 'a'}
    >>> group_people([("b", "a"), ("b",)], "target")
    {('b', 'a'): 'b', ('b',): 'b'}
    """
    if how not in ("connected", "target"):
        raise InputError(f"groups must be connected or target, got {how}")
    keys = [tuple(people) for people in videos]
    leaders = connected(keys) if how == "connected" else {}
    return {people: leaders.get(people[0], people[0]) for people in keys}


def connected(sets: Iterable[Sequence[T]]) -> dict[T, T]:
    """Of every member of sets that may overlap the least member of its connected component.

    >>> connected([(3, 4), (2, 3), (9,)])
    {2: 2, 3: 2, 4: 2, 9: 9}
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = [(some[0], member) for some in sets for member in some]
    members: list[Any] = sorted({member for _, member in edges})
    if not members:
        return {}
    numbers = {member: number for number, member in enumerate(members)}
    rows, columns = np.array([[numbers[first], numbers[member]] for first, member in edges]).T
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(members), len(members)))
    components = connected_components(graph, directed=False)[1]
    least = np.unique(components, return_index=True)[1]  # members are in order
    return {member: members[least[component]] for member, component in zip(members, components, strict=True)}
