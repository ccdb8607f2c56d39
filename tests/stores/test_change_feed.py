"""SQLite's entries: any text comes back, the file stays small, and who was away reads on or anew."""

from __future__ import annotations

import sqlite3

import pytest
from backends import SqliteWorld, configure, in_file, rows, told
from hypothesis import given
from hypothesis import strategies as st

from balancer.rules import operations as ops
from balancer.rules.entries import pack, unpack
from balancer.stores.sqlite import change_feed

texts = st.text(st.characters(exclude_categories=["Cs"]))
fields = st.none() | texts | st.sampled_from(["\\N", "\\", "\t", "\\t", "-", "~"])


@given(st.lists(fields, min_size=1))
def test_fields_come_back_as_they_were_packed(given_fields):
    """Tabs, backslashes, line breaks, empty texts and None are told apart; None at the end is left out."""
    found = unpack(pack(*given_fields))
    expected = list(given_fields)
    while expected and expected[-1] is None:
        expected.pop()
    assert found == (expected or [""])


@given(st.floats(allow_nan=False))
def test_an_instant_comes_back_to_the_last_bit(instant):
    """What one process decides on is what another one reads."""
    (text,) = unpack(pack(instant))
    assert float(text) == instant


@pytest.fixture
def world():
    """Return a file, and a clock that is moved by hand."""
    made = SqliteWorld()
    yield made
    made.close()


@pytest.fixture
def hasty(monkeypatch):
    """Let what is over be readable for a few numbers only, and be looked through often."""
    monkeypatch.setattr(change_feed, "KEPT", 100)
    monkeypatch.setattr(change_feed, "_SWEEP_EVERY", 20)
    monkeypatch.setattr(change_feed, "_SWEEP", 100)


def number_of_rows(world):
    """Return how many rows the file has."""
    file = sqlite3.connect(world.path)
    (number,) = file.execute("SELECT count(*) FROM entry_1").fetchone()
    file.close()
    return number


def use(backend, times, start=0):
    """Take and give back so many leases."""
    for number in range(start, start + times):
        key = f"{backend._owner.name}-{number:x}"
        assert backend.call(ops.Acquire(key=key)).result is not None
        assert backend.call(ops.Release(key=key)).result is not None


def test_the_file_does_not_grow_with_what_is_over(world, hasty):
    """Tombstones go once everybody has read them; accounts, jobs and cooldowns stay."""
    backend = world.open("one")
    configure(backend, {f"a{n}": 3 for n in range(50)})
    backend.call(ops.Acquire(key="one-bound", accounts=("a1",)))
    backend.call(ops.Bind("one-bound", ("job",), 3600.0))
    backend.call(ops.Cool(account="a2", seconds=1000.0))
    use(backend, 300)
    before = number_of_rows(world)
    use(backend, 1000, 1000)
    assert number_of_rows(world) <= before + 100
    assert number_of_rows(world) < 500
    assert told(backend._feed.fleet) == told(in_file(world.path))
    assert set(rows(backend)) == {"one-bound"}


def test_who_was_away_for_longer_than_ends_are_kept_reads_everything_once(world, hasty):
    """Its leases that ended meanwhile are gone, though nobody can tell it of their ends any more."""
    away, busy = world.open("away"), world.open("busy")
    configure(away, {"a": 5})
    assert away.call(ops.Acquire(key="away-1")).result is not None
    assert away.call(ops.Acquire(key="away-2")).result is not None
    followed = away._feed
    use(busy, 10)
    assert set(rows(away)) == {"away-1", "away-2"}
    assert away._feed is followed, "it read on"
    busy.call(ops.Release(key="away-1"))
    use(busy, 300, 1000)
    assert set(rows(away)) == {"away-2"}
    assert away._feed is not followed, "it read anew"
    assert away.call(
        ops.Register((ops.LeaseState(key="away-1", account="a", state="held", age=1.0),))
    ).result == ("away-1",), "what somebody else ended stays ended"
    assert told(away._feed.fleet) == told(in_file(world.path))


def test_jobs_that_were_released_are_remembered_for_their_time_and_no_longer(world, hasty):
    """They outlast the numbers for which ends are kept, and go when their ten minutes are over."""
    backend = world.open("one")
    configure(backend, {"a": 5})
    backend.call(ops.Release(job_id="early"))
    use(backend, 300)
    other = world.open("two")
    assert other.call(ops.Acquire(key="two-1")).result is not None
    assert other.call(ops.Bind("two-1", ("early",), 60.0)).result == "over"
    backend.call(ops.Release(job_id="later"))
    world.clock.advance(700.0)
    use(backend, 300, 1000)
    assert backend.call(ops.Acquire(key="one-x")).result is not None
    assert backend.call(ops.Bind("one-x", ("later",), 60.0)).result == "bound"
    file = sqlite3.connect(world.path)
    assert file.execute("SELECT count(*) FROM entry_1 WHERE name LIKE 'job:%'").fetchone() == (0,)
    file.close()


def test_the_end_of_a_lease_is_not_told_over_the_one_that_was_brought_back(world):
    """Whoever hears of an end after ten minutes, and has the lease again, holds it in the file too."""
    backend, other = world.open("one"), world.open("two")
    configure(backend, {"a": 1})
    assert backend.call(ops.Acquire(key="one-1")).result is not None
    assert other.call(ops.Release(key="one-1")).result is not None
    world.clock.advance(700.0)
    back = ops.LeaseState(key="one-1", account="a", state="held", age=701.0)
    assert backend.call(ops.Register((back,))).result == ()
    backend.call(ops.Heartbeat())
    world.audit()
    assert set(rows(other)) == {"one-1"}


def test_an_account_that_goes_takes_what_it_was_tried_out_for_along(world):
    """The end of its cooldown is told after its own, and makes nobody believe that it is there."""
    backend, other = world.open("one"), world.open("two")
    configure(backend, {"a": 1})
    backend.call(ops.Cool(account="a", seconds=0.0))
    assert rows(other) == {}
    configure(backend, {})
    assert rows(other) == {}
    world.audit()
    assert "a" not in in_file(world.path).ledger.account_states


def test_an_operation_that_fails_leaves_the_replica_as_the_file_is(world, monkeypatch):
    """What was decided and could not be written is forgotten with it."""
    backend = world.open("one")
    configure(backend, {"a": 1})
    with monkeypatch.context() as broken:
        broken.setattr(change_feed.ChangeFeed, "write", lambda feed: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            backend.call(ops.Acquire(key="one-1"))
    assert rows(backend) == {}
    assert backend.call(ops.Acquire(key="one-2")).result is not None


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interruption_at_the_end_of_an_operation_leaves_the_replica_as_the_file_is(world, when):
    """P-1, P-27: whether it was written or not, who goes on goes by the file."""
    backend, other = world.open("one"), world.open("two")
    configure(backend, {"a": 2})
    session = backend._database._session

    def run(statement):
        if statement == "COMMIT" and when == "after":
            session.run(statement)
        if statement == "COMMIT":
            backend._database._session = session
            raise KeyboardInterrupt
        return session.run(statement)

    backend._database._session = session._replace(run=run)
    with pytest.raises(KeyboardInterrupt):
        backend.call(ops.Acquire(key="one-1"))
    assert set(rows(backend)) == set(rows(other)) == ({"one-1"} if when == "after" else set())
    assert other.call(ops.Acquire(key="two-1")).result is not None
    granted = backend.call(ops.Acquire(key="one-2")).result
    assert (granted is None) is (when == "after"), "two slots, and no more"
    world.audit()


def test_a_suspended_machine_makes_no_lease_last_longer(world, monkeypatch):
    """The file goes by a clock that counts the time of a suspension; each process notices that it was one."""
    backend = world.open("one")
    configure(backend, {"a": 1})
    machine = backend._machine_now = lambda: world.clock() + suspended
    suspended = 0.0
    assert machine() == world.clock()
    assert backend.call(ops.Acquire(key="one-1")).result is not None
    backend.call(ops.Bind("one-1", ("job",), 100.0))
    suspended = 70.0
    assert rows(backend)["one-1"].expires_in == pytest.approx(30.0)
    suspended = 101.0
    assert rows(backend) == {}


def test_what_was_reserved_on_an_account_may_be_read_to_be_over_after_the_account_is(world):
    """Each thing stands under its newest number only: the account goes with the last that is on it."""
    busy, waits, away = world.open("busy"), world.open("waits"), world.open("away")
    configure(busy, {"a": 1})
    waits.call(ops.SetWanted(()))
    away.call(ops.Heartbeat())
    configure(busy, {})
    world.clock.advance(2 * ops.OFFER_SECONDS)
    busy.call(ops.Heartbeat())  # nobody took it, and the account is in no table
    waits.call(ops.SetWanted(None))  # and so its process stands behind that
    world.audit()
    assert away._feed.fleet.ledger.account_states == {}


@pytest.mark.parametrize("mark", ["-", "~"])
def test_a_list_is_not_taken_for_something_that_is_over_whatever_its_accounts_are_called(world, hasty, mark):
    """Jobs of others on an account named like a mark count in every process, as long as they are listed."""
    one, two = world.open("one"), world.open("two")
    account, job = f"{mark}1", f"{mark}2"
    configure(one, {account: 3})
    number = one.call(ops.Claim("survey", 0, 60)).result.number
    one.call(ops.Apply(number=number, external={account: 2}, listed=((job, account, ""), ("x", account, ""))))
    configure(one, {account: 3, "b": 1})
    use(one, 200)
    assert two.call(ops.ReadAll()).result.external == {account: 2}
    assert two.call(ops.Adopt("two-1", job, account, 60.0)).result.live
    assert in_file(world.path).ledger.external == {account: 1}
    assert in_file(world.path).ledger.listed.keys() == {"x"}
