"""A server that answers as Google Cloud Storage does, with one bucket named `bucket`, in memory."""

import base64
import email
import functools
import json
import re
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import google_crc32c
import pytest

BUCKET = "bucket"
_OBJECT = re.compile(
    rf"(?:/download|/upload)?/storage/v1/b/{BUCKET}/o(?:/([^/?]*)(?:/moveTo/o/([^/?]*))?)?"
)


class Object(NamedTuple):
    content: bytes
    generation: int


class Bucket:
    """The objects by name, and uploads that are not finished."""

    def __init__(self):
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, tuple[str, bytes]] = {}
        self.count = 0
        self.lock = threading.Lock()
        self.denied = False

    def put(self, name: str, content: bytes) -> Object:
        self.count += 1
        self.objects[name] = Object(content, self.count)
        return self.objects[name]

    def described(self, name: str) -> dict:
        content, generation = self.objects[name]
        checksum = google_crc32c.Checksum(content).digest()
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": BUCKET,
            "size": str(len(content)),
            "generation": str(generation),
            "crc32c": base64.b64encode(checksum).decode(),
            "updated": "2026-01-01T00:00:00Z",
            "timeCreated": "2026-01-01T00:00:00Z",
        }

    def listed(self, prefix: str, delimiter: str) -> dict:
        items, prefixes = [], set()
        for name in sorted(self.objects):
            if name.startswith(prefix):
                rest = name[len(prefix) :]
                if delimiter and delimiter in rest:
                    prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
                else:
                    items.append(self.described(name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    # Answers are sent at once and whole.
    disable_nagle_algorithm = True
    wbufsize = -1
    bucket: Bucket

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.handle_one_of(self.get)

    def do_POST(self):
        self.handle_one_of(self.post)

    def do_PUT(self):
        self.handle_one_of(self.put)

    def do_DELETE(self):
        self.handle_one_of(self.delete)

    def handle_one_of(self, method):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        match = _OBJECT.fullmatch(url.path)
        with self.bucket.lock:
            if self.bucket.denied:
                self.answer(403, {"error": {"code": 403, "message": "Permission denied"}})
            elif url.path == "/batch/storage/v1":
                self.batch()
            elif match is None:
                known = url.path == f"/storage/v1/b/{BUCKET}"
                self.answer(200 if known else 404, {"name": BUCKET} if known else {})
            else:
                self.target = urllib.parse.unquote(match[2] or "")
                method(urllib.parse.unquote(match[1] or ""))

    def answer(self, status: int, content: dict | bytes = b"", headers: dict | None = None):
        is_json = isinstance(content, dict)
        data = json.dumps(content).encode() if is_json else content
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if is_json else "application/binary")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def is_refused(self, name: str) -> bool:
        """Whether a condition on the object's generation does not hold; then answers so."""
        there = self.bucket.objects.get(name, Object(b"", 0)).generation
        if int(self.query.get("ifGenerationMatch", there)) != there:
            self.answer(412, {"error": {"code": 412, "message": "conditionNotMet"}})
        elif int(self.query.get("ifGenerationNotMatch", -1)) == there:
            self.answer(304, headers={"x-goog-generation": str(there)})
        else:
            return False
        return True

    def get(self, name: str):
        if not name:
            prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
            self.answer(200, self.bucket.listed(prefix, delimiter))
        elif name not in self.bucket.objects:
            self.answer(404, {"error": {"code": 404, "message": "No such object"}})
        elif not self.is_refused(name):
            content, generation = self.bucket.objects[name]
            if self.query.get("alt") != "media":
                self.answer(200, self.bucket.described(name))
                return
            headers = {"x-goog-generation": str(generation)}
            found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if found is None:
                self.answer(200, content, headers)
                return
            size = len(content)
            start = int(found[1]) if found[1] else max(size - int(found[2]), 0)
            end = min(int(found[2]) + 1, size) if found[1] and found[2] else size
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            self.answer(206 if start < size else 416, content[start:end], headers)

    def post(self, name: str):
        if "upload_id" in self.query:
            self.put(name)
            return
        if self.target:
            self.move(name)
            return
        name = self.query.get("name", "")
        kind = self.query.get("uploadType")
        if kind == "multipart":
            whole = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + self.body
            about, content = email.message_from_bytes(whole).get_payload()
            name = json.loads(about.get_payload())["name"]
            self.store(name, content.get_payload(decode=True))
        elif kind == "resumable":
            name = name or json.loads(self.body)["name"]
            self.bucket.count += 1
            number = str(self.bucket.count)
            self.bucket.uploads[number] = name, b""
            host = f"http://{self.headers['Host']}"
            where = f"{host}/upload/storage/v1/b/{BUCKET}/o?upload_id={number}"
            self.answer(200, {}, {"Location": where})
        else:
            self.store(name, self.body)

    def move(self, name: str):
        there = self.bucket.objects.pop(name, None)
        if there is None:  # Also for folders, which are only parts of names.
            self.answer(404, {"error": {"code": 404, "message": "No such object"}})
            return
        self.bucket.put(self.target, there.content)
        self.answer(200, self.bucket.described(self.target))

    def put(self, _: str):
        number = self.query["upload_id"]
        name, before = self.bucket.uploads[number]
        content = before + self.body
        if self.headers.get("Content-Range", "/*").endswith("/*") and self.body:
            self.bucket.uploads[number] = name, content
            self.answer(308, headers={"Range": f"bytes=0-{len(content) - 1}"})
        else:
            self.store(name, content)

    def store(self, name: str, content: bytes):
        if not self.is_refused(name):
            self.bucket.put(name, content)
            self.answer(200, self.bucket.described(name))

    def delete(self, name: str):
        if not self.is_refused(name):
            there = self.bucket.objects.pop(name, None)
            self.answer(204 if there else 404)

    def batch(self):
        """Several deletions in one request."""
        names = re.findall(rf"DELETE \S*/b/{BUCKET}/o/(\S+)", self.body.decode())
        lines = []
        for name in names:
            there = self.bucket.objects.pop(urllib.parse.unquote(name), None)
            status = "204 No Content" if there else "404 Not Found"
            part = f"Content-Type: application/http\r\n\r\nHTTP/1.1 {status}\r\n\r\n"
            lines.append(f"--parts\r\n{part}\r\n")
        data = ("".join(lines) + "--parts--\r\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "multipart/mixed; boundary=parts")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """One that does not mind clients which have heard enough."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@functools.cache
def serve() -> tuple[Bucket, str]:
    """The bucket and its address, one for each process: libraries remember the address."""
    bucket = Bucket()
    handler = type("BucketHandler", (Handler,), {"bucket": bucket})
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return bucket, f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def bucket(monkeypatch):
    """The empty bucket, which all libraries and programs find while the test runs."""
    found, address = serve()
    found.objects.clear()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "token")
    # Otherwise gcsfs asks another server for the kind of bucket.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    yield found
    found.denied = False
