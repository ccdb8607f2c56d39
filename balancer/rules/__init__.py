"""Every decision of the library: no lock, no clock, no thread, no I/O in here."""
