"""A hub of one data set on the loopback: what the real client asks for.

`python hub_server.py FOLDER` prints its port and serves FOLDER as the data set
me/corpus until it is killed; FOLDER/.commit names the commit of its main
branch. The files are the same at every commit.
"""

import hashlib
import http.server
import json
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

NAME = "me/corpus"


class Handler(http.server.BaseHTTPRequestHandler):
    """Metadata as JSON, files with ranges."""

    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, *arguments: object) -> None:
        """One line a request, for the test to read."""
        print(self.command, self.path, file=sys.stderr, flush=True)

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Facts of the repository, its tree, or a file."""
        path = unquote(urlsplit(self.path).path)
        api = f"/api/datasets/{NAME}"
        file = f"/datasets/{NAME}/resolve/"
        if path.startswith(file):
            revision, _, name = path.removeprefix(file).partition("/")
            self.file(name, self.commit(revision))
        elif path == api or path.startswith(f"{api}/revision/"):
            commit = self.commit(path.removeprefix(f"{api}/revision/"))
            names = [{"rfilename": name} for name in self.files()]
            self.json({"id": NAME, "sha": commit, "siblings": names, "tags": []})
        elif path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            self.json(self.tree(folder))
        else:
            self.answer(404, b"{}")

    def do_POST(self) -> None:
        """paths-info: the entries of the paths asked for."""
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not urlsplit(self.path).path.startswith(f"/api/datasets/{NAME}/paths-info"):
            self.answer(404, b"{}")
            return
        self.json([self.entry(name) for name in json.loads(raw)["paths"] if name])

    def commit(self, revision: str) -> str:
        """A commit as it is, a branch's commit."""
        is_commit = len(revision) == 40
        return revision if is_commit else (self.root / ".commit").read_text()

    def files(self) -> list[str]:
        """Names of the files, relative to the folder."""
        found = [path for path in self.root.rglob("[!.]*") if path.is_file()]
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def tree(self, folder: str) -> list[dict]:
        """All entries below a folder."""
        below = (self.root / folder).rglob("[!.]*")
        return [self.entry(p.relative_to(self.root).as_posix()) for p in sorted(below)]

    def entry(self, name: str) -> dict:
        """What the hub says of a path."""
        path = self.root / name
        facts = {"path": name, "oid": self.etag(path), "size": 0}
        if path.is_dir():
            return {"type": "directory", **facts}
        return {"type": "file", **facts, "size": path.stat().st_size}

    def etag(self, path: Path) -> str:
        """A hash of the file's name."""
        return hashlib.sha1(path.as_posix().encode()).hexdigest()

    def file(self, name: str, commit: str) -> None:
        """A file or a range of it."""
        path = self.root / name
        if not path.is_file():
            self.answer(404, b"", X_Error_Code="EntryNotFound")
            return
        content, status, facts = path.read_bytes(), 200, {}
        wanted = self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            size = len(content)
            start, stop = int(first), min(int(last or size - 1), size - 1)
            content, status = content[start : stop + 1], 206
            facts["Content_Range"] = f"bytes {start}-{stop}/{size}"
        self.answer(
            status,
            content,
            ETag=f'"{self.etag(path)}"',
            X_Repo_Commit=commit,
            Accept_Ranges="bytes",
            **facts,
        )

    def json(self, value: object) -> None:
        """A JSON answer."""
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """The status, the headers and, but for HEAD, the body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
