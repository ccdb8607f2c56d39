"""Work on an asset must run on the account that made it: the client reads that from the asset's id.

The server would refuse or misroute a job sent elsewhere. A create that names an asset waits for that account
alone, and holds nobody up: those behind it get the slots of the other accounts.
"""

from __future__ import annotations

from balancer import Client, RemoteJob


def song_and_edit(client: Client, prompt: str, change: str) -> tuple[RemoteJob, RemoteJob]:
    """Make a song anywhere, and a changed one where the song is; return both jobs, which have ended."""
    song = client.submit("music", {"prompt": prompt}, timeout=600)
    clip = song.result(timeout=900)["clips"][0]["clip"]
    edit = client.submit("music/edit", {"clip": clip, "prompt": change}, timeout=600)
    edit.result(timeout=900)
    return song, edit
