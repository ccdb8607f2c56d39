"""Every decision: no lock, no clock, no thread and no I/O in here."""
