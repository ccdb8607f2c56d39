"""Which code is the package's own, wherever the checkout lies and however the folders above are called."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import balancer

PACKAGE = Path(balancer.__file__).parent


@cache
def is_own(filename, package=PACKAGE):
    """Return whether a file belongs to the package; its stand-in for the service does not count."""
    path = Path(filename)
    return path.is_relative_to(package) and not path.is_relative_to(package / "testing")
