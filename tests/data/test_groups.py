import pytest

from forgerank.data.groups import connected, group_people
from forgerank.types import InputError


def test_groups_join_over_several_videos_and_in_any_order() -> None:
    groups = group_people([("d", "c"), ("b", "a"), ("x",), ("c", "b"), ("a",)])
    assert groups == {("d", "c"): "a", ("b", "a"): "a", ("x",): "x", ("c", "b"): "a", ("a",): "a"}


def test_groups_by_target_do_not_join() -> None:
    assert group_people([("a", "b"), ("b", "a")], "target") == {("a", "b"): "a", ("b", "a"): "b"}
    with pytest.raises(InputError, match="connected or target, got source"):
        group_people([("a",)], "source")  # type: ignore[arg-type]


def test_components_are_named_by_their_least_member() -> None:
    assert connected([(("b", "2"), ("a", "9")), (("c", "1"),), (("b", "2"), ("d", "0"))]) == {
        ("a", "9"): ("a", "9"), ("b", "2"): ("a", "9"), ("d", "0"): ("a", "9"), ("c", "1"): ("c", "1"),
    }  # fmt: skip
    assert connected([]) == {}
