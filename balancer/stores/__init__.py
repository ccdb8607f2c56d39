"""Where leases are counted."""
