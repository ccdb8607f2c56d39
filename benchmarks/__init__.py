"""What the balancer costs, always as a ratio to something well known measured in the same run."""
