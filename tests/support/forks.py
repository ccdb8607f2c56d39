"""Work in a forked child."""

import json
import os
import traceback


def in_child(work):
    """Run ``work`` in a forked child, and return what it returned, as JSON carries it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            outcome = {"returned": work()}
        except BaseException:  # noqa: BLE001  # told to the parent
            outcome = {"raised": traceback.format_exc()}
        os.write(writer, json.dumps(outcome).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        outcome = json.loads(pipe.read() or "{}")
    os.waitpid(child, 0)
    assert "returned" in outcome, outcome.get("raised", "the child said nothing")
    return outcome["returned"]
