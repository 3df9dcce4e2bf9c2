"""A loopback server that keeps runs as W&B's does, for its real client.

It answers the operations that the client sends when it logs, resumes and reads; any
other is an error of the test. Nothing leaves the machine.
"""

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "team"
OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")


@dataclass
class Stored:
    """A run on the server."""

    attributes: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[int, str]] = field(default_factory=dict)
    complete: bool = False

    def lines(self, name: str) -> list[str]:
        """The lines of one of its streams, by their offsets."""
        known = self.files.get(name, {})
        return [known[number] for number in sorted(known)]

    @property
    def history(self) -> list[dict[str, Any]]:
        """Its rows as they were streamed."""
        return [json.loads(line) for line in self.lines("wandb-history.jsonl")]


class Listener(ThreadingHTTPServer):
    """A client that was killed is no error of the server."""

    daemon_threads = True

    def handle_error(self, request: Any, address: Any) -> None:
        """Nothing to say."""


class WandbServer:
    """`url` for WANDB_BASE_URL; `runs` by (project, id); `asked` are the operations."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], Stored] = {}
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.unknown: list[str] = []
        self.samples: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._http = Listener(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()

    def _handler(server) -> type:  # noqa: N805 (the handler has a self of its own)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                server.keys.add(self.headers.get("authorization") or "")
                with server._lock:
                    found = server._answer(self.path, body)
                data = json.dumps(found).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _serve

        return Handler

    def _answer(self, path: str, body: bytes) -> Any:
        if path == "/graphql":
            request = json.loads(body)
            name = OPERATION.search(request["query"])[1]
            self.asked.append(name)
            method = getattr(self, f"_on_{name}", None)
            if method is None:
                self.unknown.append(f"{name}: {request['query']}")
                return {"errors": [{"message": f"no such operation: {name}"}]}
            return {"data": method(request.get("variables") or {}, request["query"])}
        stream = re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", path)
        if stream:
            return self._stream(self.runs[stream[1], stream[2]], json.loads(body))
        return {}

    def _stream(self, run: Stored, body: dict[str, Any]) -> dict[str, Any]:
        for name, part in (body.get("files") or {}).items():
            lines = run.files.setdefault(name, {})
            for number, line in enumerate(part["content"], start=part["offset"]):
                lines[number] = line
        run.complete = run.complete or bool(body.get("complete"))
        return {"exitcode": None, "limits": {}}

    def _on_UpsertBucket(self, given: dict, query: str) -> dict:
        key = given["project"], given["name"]
        inserted = key not in self.runs
        run = self.runs.setdefault(key, Stored())
        names = ("displayName", "groupName", "jobType", "tags", "config")
        run.attributes |= {k: given[k] for k in names if given.get(k) is not None}
        if given.get("summaryMetrics"):
            run.attributes["summary"] = given["summaryMetrics"]
        project = {"id": "cA==", "name": given["project"]}
        project["entity"] = {"id": "ZQ==", "name": ENTITY}
        bucket = {"id": key[1], "name": key[1], "config": run.attributes["config"]}
        bucket |= {"displayName": run.attributes["displayName"], "sweepName": None}
        bucket |= {"description": None, "project": project}
        bucket["historyLineCount"] = len(run.lines("wandb-history.jsonl"))
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _on_RunResumeStatus(self, given: dict, query: str) -> dict:
        entity = {"id": "ZQ==", "name": ENTITY}
        model = {"id": "cA==", "name": given["project"], "entity": entity}
        run = self.runs.get((given["project"], given["name"]))
        if run is None:
            return {"model": {**model, "bucket": None}}
        history = run.lines("wandb-history.jsonl")
        events = run.lines("wandb-events.jsonl")
        summary = run.lines("wandb-summary.json")
        bucket = {
            "id": given["name"],
            "name": given["name"],
            "summaryMetrics": summary[-1] if summary else "{}",
            "displayName": run.attributes["displayName"],
            "logLineCount": 0,
            "historyLineCount": len(history),
            "eventsLineCount": len(events),
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps(events[-1:]),
            "config": run.attributes["config"],
            "tags": run.attributes.get("tags", []),
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**model, "bucket": bucket}}

    def _on_CreateRunFiles(self, given: dict, query: str) -> dict:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/upload/{name}"}
            for name in given["files"]
        ]
        made = {"runID": given["run"], "uploadHeaders": [], "files": files}
        return {"createRunFiles": made}

    def _on_Viewer(self, given: dict, query: str) -> dict:
        teams = {"edges": [{"node": {"id": "dA==", "name": ENTITY}}]}
        viewer = {"id": "dg==", "flags": "{}", "entity": ENTITY, "username": "someone"}
        return {"viewer": {**viewer, "email": "someone@example.org", "teams": teams}}

    _on_GetDefaultEntity = _on_Viewer

    def _node(self, name: str, run: Stored) -> dict[str, Any]:
        history = run.history
        keys = sorted({key for row in history for key in row})
        last = max((row["_step"] for row in history), default=-1)
        known = {"keys": {key: {"typeCounts": []} for key in keys}, "lastStep": last}
        summary = run.lines("wandb-summary.json")
        return {
            "id": name,
            "projectId": "1",
            "name": name,
            "displayName": run.attributes["displayName"],
            "tags": run.attributes.get("tags", []),
            "group": run.attributes.get("groupName"),
            "jobType": run.attributes.get("jobType"),
            "config": run.attributes["config"],
            "summaryMetrics": summary[-1] if summary else "{}",
            "systemMetrics": "{}",
            "state": "finished" if run.complete else "running",
            "sweepName": None,
            "commit": None,
            "readOnly": False,
            "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T00:00:00",
            "description": "",
            "notes": "",
            "historyLineCount": len(history),
            "historyKeys": known,
            "user": {"name": "someone", "username": "someone"},
        }

    def _on_Runs(self, given: dict, query: str) -> dict:
        here = {n: r for (p, n), r in self.runs.items() if p == given["project"]}
        if not here:
            return {"project": None}
        group = json.loads(given.get("filters") or "{}").get("group")
        nodes = [
            self._node(name, run)
            for name, run in here.items()
            if group in (None, run.attributes.get("groupName"))
        ]
        edges = [{"node": node, "cursor": node["name"]} for node in nodes]
        page = {"endCursor": None, "hasNextPage": False}
        project = {"internalId": "1", "runCount": len(edges), "readOnly": False}
        return {"project": {**project, "runs": {"edges": edges, "pageInfo": page}}}

    def _of(self, given: dict) -> Stored:
        name = given.get("name") or given.get("run")
        return self.runs[given["project"], name]

    def _on_Run(self, given: dict, query: str) -> dict:
        return {"project": {"run": self._node(given["name"], self._of(given))}}

    def _on_RunHistoryKeys(self, given: dict, query: str) -> dict:
        return self._on_Run(given, query)

    def _on_RunFullHistory(self, given: dict, query: str) -> dict:
        run = self._of(given)
        streamed = run.lines("wandb-events.jsonl")
        events = streamed + [json.dumps(row) for row in self.samples]
        return {
            "project": {
                "run": {"events": events, "history": run.lines("wandb-history.jsonl")}
            }
        }

    def _on_RunParquetHistory(self, given: dict, query: str) -> dict:
        return {"project": {"run": {"parquetHistory": {"parquetUrls": []}}}}

    def _on_HistoryPage(self, given: dict, query: str) -> dict:
        low, high = given.get("minStep") or 0, given.get("maxStep") or 1 << 60
        rows = [
            line
            for line in self._of(given).lines("wandb-history.jsonl")
            if low <= json.loads(line)["_step"] < high
        ]
        return {"project": {"run": {"history": rows}}}
