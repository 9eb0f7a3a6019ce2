"""Whose the objects are that calls name."""

from pathlib import Path
from typing import Any

import pytest

from gateway.core.failure import BadRequest, NotFound
from gateway.edge.ownership import Ownership
from gateway.edge.references import Reference
from gateway.state.database import Database
from gateway.state.owners import Owners


@pytest.fixture
def book(tmp_path: Path) -> Any:
    database = Database(f"sqlite:///{tmp_path}/owners.db")
    yield lambda: Ownership(Owners(database, lambda: 0.0))
    database.close()


async def test_an_object_is_its_teams_alone(book: Any) -> None:
    ownership = book()
    await ownership.remember(["a", "a", "b" * 300], "red", "p1", "files")
    assert await ownership.provider_of([Reference("a")], "red") == "p1"
    for wanted, team in (("a", "blue"), ("unknown", "red"), ("b" * 300, "red")):
        with pytest.raises(NotFound) as refused:
            await ownership.provider_of([Reference(wanted)], team)
        assert refused.value.code == "not_found"


async def test_whoever_was_first_stays_the_owner(book: Any) -> None:
    one, other = book(), book()
    await one.remember(["a"], "red", "p1", "files")
    await other.remember(["a"], "blue", "p2", "files")
    for ownership in (one, other, book()):
        assert await ownership.provider_of([Reference("a")], "red") == "p1"
        with pytest.raises(NotFound):
            await ownership.provider_of([Reference("a")], "blue")


async def test_what_is_forgotten_is_gone(book: Any) -> None:
    ownership = book()
    await ownership.remember(["a"], "red", "p1", "files")
    await ownership.forget("a")
    with pytest.raises(NotFound):
        await ownership.provider_of([Reference("a")], "red")


async def test_an_item_sent_back_must_only_not_be_another_teams(book: Any) -> None:
    ownership = book()
    await ownership.remember(["a"], "red", "p1", "responses")
    assert await ownership.provider_of([Reference("new", False), Reference("a", False)], "red") is None
    with pytest.raises(NotFound):
        await ownership.provider_of([Reference("a", False)], "blue")
    with pytest.raises(NotFound):
        await ownership.provider_of([Reference("new"), Reference("new", False)], "red")


async def test_objects_of_two_providers_cannot_be_used_together(book: Any) -> None:
    ownership = book()
    await ownership.remember(["a"], "red", "p1", "files")
    await ownership.remember(["b"], "red", "p2", "files")
    with pytest.raises(BadRequest):
        await ownership.provider_of([Reference("a"), Reference("b")], "red")
    with pytest.raises(BadRequest):
        await ownership.provider_of([Reference(str(i)) for i in range(6000)], "red")


async def test_a_list_keeps_the_teams_own_in_their_order(book: Any) -> None:
    ownership = book()
    await ownership.remember([f"f{i}" for i in range(1200)], "red", "p1", "files")
    data = [{"id": f"f{i}"} for i in range(1200)]
    mixed = [{"id": "x"}, *data, {"id": 7}, "y"]
    assert await book().own(mixed, "red") == data
    assert await ownership.own(mixed, "blue") == []
