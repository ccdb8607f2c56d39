"""A file of prompts in, a file of results out, whatever kills the process in between."""
