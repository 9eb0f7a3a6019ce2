"""Sequences keep their rows, and rows are told no more than what has changed."""

from local_backend.seats import Seats, paddings


def told(seats: Seats, row: int, table: list[int]) -> list[tuple[int, int]]:
    return list(seats.tell(row, table))


def test_a_sequence_keeps_its_row_while_others_come_and_go() -> None:
    seats = Seats(8, 4)
    assert seats.sit([(10, 0), (11, 0), (12, 0)], 4) == [0, 1, 2]
    assert seats.sit([(10, 0), (12, 0), (13, 0)], 4) == [0, 2, 1]
    assert seats.sit([(12, 0), (14, 0)], 4) == [2, 0]


def test_who_sits_too_far_back_moves_where_fewer_rows_are_computed() -> None:
    seats = Seats(8, 4)
    seats.sit([(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)], 8)
    assert seats.sit([(5, 0), (1, 0)], 2) == [1, 0]


def test_a_row_is_told_its_table_once_and_then_what_was_added() -> None:
    seats = Seats(2, 4)
    assert told(seats, 1, [7, 8]) == [(4, 7), (5, 8)]
    assert told(seats, 1, [7, 8]) == []
    assert told(seats, 1, [7, 8, 3]) == [(6, 3)]


def test_a_row_is_told_all_of_a_table_that_has_become_another() -> None:
    seats = Seats(1, 4)
    told(seats, 0, [7, 8, 3])
    assert told(seats, 0, [7, 9, 3]) == [(0, 7), (1, 9), (2, 3)], "a shared block was copied"
    assert told(seats, 0, [5]) == [(0, 5)], "somebody else sits there"
    assert told(seats, 0, [5, 9]) == [(1, 9)]


def test_few_sizes_hold_every_batch() -> None:
    assert paddings(1) == [1]
    assert paddings(6) == [1, 2, 4, 6]
    assert paddings(96) == [1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96]
    assert paddings(256)[-2:] == [240, 256]
