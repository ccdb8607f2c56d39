"""Where things are, for tests that look at files or start programs."""

from pathlib import Path

SUPPORT = Path(__file__).parent
"""Of the helpers, and of the programs that tests start."""
