"""What the answers of useapi.net say."""
