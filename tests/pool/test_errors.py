"""The error tree: one root, facts as attributes, safe to copy, to send and to show."""

from __future__ import annotations

import inspect
import pickle
import traceback
from datetime import UTC, datetime

import pytest

import balancer
from balancer import errors
from balancer.errors import BalancerError, sanitized

OURS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BalancerError)]


def test_the_docstring_draws_the_tree_as_it_is():
    """Every error stands in the drawing, at its place, and none is drawn that does not exist."""
    drawn = [line for line in errors.__doc__.splitlines() if "──" in line]
    names = {line.split("── ")[1].split()[0]: line.index("──") for line in drawn}
    assert set(names) == {kind.__name__ for kind in OURS} - {"BalancerError"}
    children = [kind for kind in OURS if errors.SourceError in kind.__bases__]
    assert {kind.__name__ for kind in children} == {
        name for name, depth in names.items() if depth > min(names.values())
    }


@pytest.mark.parametrize("kind", OURS)
def test_every_error_is_public_documented_and_of_the_root(kind):
    """One except clause catches what this library raises on purpose."""
    assert issubclass(kind, BalancerError)
    assert kind.__doc__
    assert getattr(balancer, kind.__name__) is kind


def test_a_timeout_is_a_timeout_error():
    """Callers that know nothing of this library catch it by the builtin name."""
    assert issubclass(errors.AcquireTimeout, TimeoutError)
    assert not issubclass(errors.NoAccounts, TimeoutError)


@pytest.mark.parametrize("kind", OURS)
def test_facts_are_attributes_with_defaults(kind):
    """A program never reads a message; an error made without facts has them all the same."""
    bare = kind("what happened")
    assert str(bare) == "what happened"
    for name in inspect.get_annotations(kind):
        assert hasattr(bare, name)
    assert kind("x", lease_id="17").lease_id == "17"


@pytest.mark.parametrize("kind", OURS)
def test_an_error_survives_a_pickle(kind):
    """Worker processes send what went wrong to their parents."""
    facts = {"retry_at": datetime(2026, 1, 1, tzinfo=UTC), "reasons": {"a": "broken"}, "timeout": 5.0}
    back = pickle.loads(pickle.dumps(kind("what happened", **facts)))
    assert type(back) is kind
    assert str(back) == "what happened"
    assert {name: getattr(back, name) for name in facts} == facts


@pytest.mark.parametrize("kind", OURS)
def test_one_failure_told_to_many_is_told_to_each_afresh(kind):
    """An exception object gathers the frames of everybody who raises it, so each gets its own."""
    cause = sanitized(OSError("no route"))
    first = kind("away", retry_after=5)
    first.__cause__ = cause

    def frames():
        try:
            raise first.copy_for_raise()
        except BalancerError as error:
            return error, len(traceback.extract_tb(error.__traceback__))

    told = [frames() for _ in range(3)]
    assert [depth for _, depth in told] == [1, 1, 1]
    assert len({id(error) for error, _ in told} | {id(first)}) == 4
    for error, _ in told:
        assert (type(error), str(error), error.retry_after, error.__cause__) == (kind, "away", 5, cause)
    assert first.__traceback__ is None


def test_a_foreign_error_is_reduced_to_type_and_text():
    """No attribute of the original, no frame and no chain goes along."""

    class Theirs(Exception):
        request = "the header"

    with pytest.raises(Theirs) as caught:
        raise Theirs("what they said") from OSError("their cause")
    stand_in = sanitized(caught.value)
    assert str(stand_in).endswith("Theirs: what they said")
    assert not hasattr(stand_in, "request")
    assert (stand_in.__traceback__, stand_in.__cause__, stand_in.__context__) == (None, None, None)
    assert str(pickle.loads(pickle.dumps(stand_in))) == str(stand_in)


def test_a_long_foreign_text_is_cut():
    """Some libraries put whole bodies into their messages."""
    assert len(str(sanitized(ValueError("x" * 100_000)))) <= 200
