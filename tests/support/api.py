"""A plain client of the stand-in, and a receiver for its callbacks."""

from __future__ import annotations

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import requests


class Api:
    """One session to one stand-in, with its token."""

    def __init__(self, fake, service="flowmusic"):
        self.fake = fake
        self.base = f"{fake.url}/{'v2' if service == 'pixverse' else 'v1'}/{service}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {fake.token}"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.session.close()

    def get(self, path, **query):
        return self.session.get(f"{self.base}/{path}", params=query, timeout=10)

    def delete(self, path):
        return self.session.delete(f"{self.base}/{path}", timeout=10)

    def create(self, path="music", *, timeout=10, **fields):
        return self.session.post(f"{self.base}/{path}", json={"prompt": "x", **fields}, timeout=timeout)


class Receiver:
    """Takes callbacks on this machine and keeps their bodies in order."""

    def __init__(self):
        bodies = self.bodies = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                bodies.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def next(self):
        return self.bodies.get(timeout=10)
