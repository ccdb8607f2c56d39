"""How far a call walks through the code: through how many calls and files, with how many jumps.

A path is as long as what a reader has to follow, and as what each caller pays. These figures only get
smaller: ``python -m benchmarks.walks`` shows those of a checkout, ``make shape BASE=…`` two side by side.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Calls, files, jumps from one file to another. Where two ways are as likely, as after a race with
# the thread of a store, the longer one.
MOST = {
    "memory": {
        "acquire": (2, 2, 1),
        "acquire, with a label in time": (3, 3, 2),
        "acquire, one account": (15, 8, 7),
        "acquire, after a wait": (30, 13, 22),
        "acquire, one account, after a wait": (47, 12, 22),
        "release": (2, 2, 1),
        "release to one who waits": (25, 9, 14),
        "release to one who waits, who is served later": (25, 9, 14),
        "release to one who waits, one account": (33, 9, 14),
        "release to one who waits, one account, who is served later": (33, 9, 14),
    },
    "sqlite": {
        "acquire": (46, 17, 30),
        "acquire, with a label in time": (46, 19, 31),
        "acquire, one account": (59, 21, 39),
        "acquire, after a wait": (87, 27, 60),
        "acquire, one account, after a wait": (117, 28, 69),
        "release": (33, 15, 21),
        "release to one who waits": (59, 17, 38),
        "release to one who waits, who is served later": (76, 23, 46),
        "release to one who waits, one account": (61, 17, 38),
        "release to one who waits, one account, who is served later": (78, 23, 46),
    },
    "redis": {
        "acquire": (47, 10, 14),
        "acquire, with a label in time": (50, 11, 15),
        "acquire, one account": (60, 14, 24),
        "acquire, after a wait": (93, 21, 51),
        "acquire, one account, after a wait": (115, 22, 57),
        "release": (33, 7, 11),
        "release to one who waits": (33, 7, 11),
        "release to one who waits, who is served later": (50, 14, 21),
        "release to one who waits, one account": (33, 7, 11),
        "release to one who waits, one account, who is served later": (50, 14, 21),
    },
}


@cache
def walks(store):
    """Return what each operation walks on a store, in a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.walks", store]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100)
    return {name: tuple(walk) for name, walk in json.loads(child.stdout)[store].items()}


@pytest.mark.parametrize(
    ("store", "operation"), [(store, operation) for store, most in MOST.items() for operation in most]
)
def test_no_operation_walks_further_than_it_did(store, operation):
    """No operation takes more calls, more files or more jumps between files than the table says."""
    walk, most = walks(store)[operation], MOST[store][operation]
    assert all(now <= then for now, then in zip(walk, most, strict=True)), (
        f"{operation} on {store} walks through (calls, files, jumps) {walk}, which was {most}: "
        "shorten the way it goes; the table is lowered when a way gets shorter, and never raised"
    )


@pytest.mark.parametrize("store", MOST)
def test_every_operation_that_is_measured_is_held_to_a_figure(store):
    """An operation that is added to the measurement is added to the table."""
    assert set(walks(store)) == set(MOST[store])
