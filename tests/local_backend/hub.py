"""A hub on 127.0.0.1 with one model, `tiny/model`, that breaks off the first transfer of its weights in the middle."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes], *, breaks: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files, self.breaks = files, breaks
        self.asked: list[tuple[str, str, str]] = []  # method, path, range

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges(self, name: str) -> list[str]:
        return [span for method, path, span in self.asked if method == "GET" and path.endswith(f"/{name}")]


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path, span = self.path.partition("?")[0], self.headers.get("range", "")
        self.server.asked.append((self.command, path, span))
        files = self.server.files
        if path.startswith("/api/models/tiny/model/tree/"):
            self._send(200, json.dumps([_entry(name, content) for name, content in files.items()]).encode())
        elif path.startswith("/api/models/tiny/model"):
            siblings = [{"rfilename": name} for name in files]
            self._send(200, json.dumps({"id": "tiny/model", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith(f"/tiny/model/resolve/{COMMIT}/"):
            self._file(files[path.rpartition("/")[2]], span, body=body)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _file(self, content: bytes, span: str, *, body: bool) -> None:
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        about = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if span:
            about["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if body and not span and self.server.breaks and len(content) > 1 << 20:
            self._send(200, content, about, cut=len(content) // 2)
        else:
            self._send(206 if span else 200, content[start:], about, cut=None if body else 0)

    def _send(
        self, status: int, content: bytes, more: Mapping[str, str] = {}, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:cut])
        self.close_connection = self.close_connection or cut is not None


def _entry(name: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def hub(files: Mapping[str, bytes], *, breaks: bool = False) -> Iterator[Hub]:
    server = Hub(files, breaks=breaks)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
