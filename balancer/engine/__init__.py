"""One pool in one process, doing."""
