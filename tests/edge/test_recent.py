"""What was last put in is found by its key, and the tables never grow."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.recent import Recent


class SameHash(str):
    """Keys that all come into one chain."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7


@pytest.mark.parametrize("make", [str, SameHash])
@given(
    capacity=st.integers(1, 5),
    keys=st.text("abcdefghij", max_size=60),
)
def test_it_is_a_dict_that_forgets_what_came_first(make: type[str], capacity: int, keys: str) -> None:
    recent: Recent[str, int] = Recent(capacity)
    last: OrderedDict[int, str] = OrderedDict()
    for number, letter in enumerate(keys):
        recent.put(make(letter), number)
        last[number] = letter
        if len(last) > capacity:
            last.popitem(last=False)
        for each in "abcdefghij":
            expected = max((n for n, found in last.items() if found == each), default=None)
            assert recent.get(make(each)) == expected


def test_its_tables_stay_as_they_were_made() -> None:
    recent: Recent[int, int] = Recent(8)
    tables = [recent._entries, recent._older, recent._newest]
    sizes = [table.__sizeof__() for table in tables]
    for number in range(1000):
        recent.put(number, number)
    assert [table.__sizeof__() for table in tables] == sizes
    assert [recent.get(number) for number in (991, 992, 999)] == [None, 992, 999]


def test_there_must_be_room() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        Recent(0)
