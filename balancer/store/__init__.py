"""Where leases are counted: in this process, in a file for one machine, in Redis for a fleet."""
