"""An interruption at each moment of the package at which there may be one."""

import sys

from own_code import is_own

SWALLOWED = (
    "__del__",
    "<genexpr>",
)  # what is raised in a finalizer, or in a generator that is closed, is lost


class Interrupter:
    """Raises KeyboardInterrupt at the n-th moment of the package at which the interpreter looks for signals.

    These are the entry of a function and the return of a built-in one.
    """

    def __init__(self, moment):
        self.left = moment

    def __call__(self, frame, event, arg):
        code = frame.f_code
        if is_own(code.co_filename) and event in ("call", "c_return") and code.co_name not in SWALLOWED:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)


def interrupted(moment, act):
    """Act with an interruption at that moment; return whether it came."""
    try:
        with Interrupter(moment):
            act()
    except KeyboardInterrupt:
        return True
    return False
