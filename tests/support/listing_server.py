"""A source of two accounts that lists the jobs which a test says are running."""


class Server:
    """A source that lists jobs."""

    def __init__(self):
        self.running = []

    def accounts(self):
        return {"a": 2, "b": 1}

    def jobs(self):
        return list(self.running)
