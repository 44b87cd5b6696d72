from __future__ import annotations

from itertools import pairwise

from infini_llama.data.order import Draws, Order, Record, Source

A, B, C = (
    Source(name="a", rows=50, weight=0.7),
    Source(name="b", rows=1000, weight=0.2),
    Source(name="c", rows=7, weight=0.1),
)
# The rows of `A` are 0 to 49, those of `B` 50 to 1049, and those of `C` 1050 to 1056.
STARTS = (0, 50, 1050, 1057)


def drawn(order: Order, begin: int, end: int) -> list[int]:
    return [order[draw] for draw in range(begin, end)]


def of_source(rows: list[int], index: int) -> list[int]:
    return [row for row in rows if STARTS[index] <= row < STARTS[index + 1]]


def test_one_source_is_drawn_epoch_by_epoch_each_in_another_order() -> None:
    rows = drawn(Order([A], seed=0), 0, 150)
    epochs = [rows[:50], rows[50:100], rows[100:]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(50))] * 3
    assert all(one != other for one, other in pairwise(epochs))
    assert drawn(Order([A], seed=1), 0, 50) != rows[:50]


def test_each_source_has_its_share_of_every_stretch() -> None:
    rows = drawn(Order([A, B, C], seed=0), 0, 4 * 1024)
    for begin in range(0, len(rows), 1024):
        counts = [len(of_source(rows[begin : begin + 1024], index)) for index in range(3)]
        assert all(abs(count - 1024 * share) < 3 for count, share in zip(counts, (0.7, 0.2, 0.1), strict=True))


def test_weights_count_in_proportion() -> None:
    by_sevens = [Source(name=s.name, rows=s.rows, weight=s.weight * 70) for s in (A, B, C)]
    assert drawn(Order(by_sevens, seed=0), 0, 500) == drawn(Order([A, B, C], seed=0), 0, 500)


def test_a_source_of_a_mixture_is_drawn_as_if_it_were_alone() -> None:
    rows = drawn(Order([A, B, C], seed=0), 0, 3 * 1024)
    for index, source in enumerate((A, B, C)):
        taken = [row - STARTS[index] for row in of_source(rows, index)]
        assert taken == drawn(Order([source], seed=0), 0, len(taken))


def test_a_draw_does_not_depend_on_those_before_it() -> None:
    rows = drawn(Order([A, B, C], seed=3), 0, 3000)
    order = Order([A, B, C], seed=3)
    assert [order[draw] for draw in reversed(range(3000))] == rows[::-1]


def test_the_record_of_an_order_counts_what_was_taken_of_each_source() -> None:
    order = Order([A, B, C], seed=0)
    for count in (0, 1, 1023, 1024, 2500):
        rows = drawn(order, 0, count)
        record = order.record(count)
        assert record["drawn"] == count
        assert record["taken"] == {s.name: len(of_source(rows, i)) for i, s in enumerate((A, B, C))}
    assert Order([A], seed=0).record(60)["taken"] == {"a": 60}


def test_an_order_goes_on_from_its_record() -> None:
    straight = drawn(Order([A, B, C], seed=0), 0, 3000)
    record = Record(**Order([A, B, C], seed=0).record(1500))
    assert drawn(Order([A, B, C], seed=0, before=record), 1500, 3000) == straight[1500:]


def test_where_weights_change_each_source_goes_on_where_it_was() -> None:
    large = [Source(name=name, rows=10_000, weight=1) for name in ("a", "b")]
    rows = drawn(Order(large, seed=0), 0, 1500)
    record = Record(**Order(large, seed=0).record(1500))
    changed = [Source(name="b", rows=10_000, weight=3), Source(name="new", rows=10_000, weight=1)]
    order = Order(changed, seed=0, before=record)
    more = drawn(order, 1500, 1500 + 2048)
    # `b` is the first of the two now, so its rows have other numbers.
    from_b = [row for row in more if row < 10_000]
    assert len(from_b) == 1536
    assert not {row + 10_000 for row in from_b} & set(rows)
    again = Record(**order.record(2000))
    assert again.taken["b"] == record.taken["b"] + sum(row < 10_000 for row in more[:500])
    assert drawn(Order(changed, seed=0, before=again), 2000, 3548) == more[500:]


def test_what_a_resumed_run_skips_is_not_computed() -> None:
    order = Order([A], seed=0)
    straight = list(Draws(order, begin=0, end=40, drawn=0))
    # Five steps of four rows, and then of six: the library skips five steps of six.
    resumed = Draws(order, begin=20 - 5 * 6, end=40, drawn=20)
    assert len(resumed) == 50
    assert list(resumed) == [0] * 30 + straight[20:]
