"""An MCP server of the older protocol, on the standard library alone, that does what servers should not.

Its arguments: a folder, and what it is like: ``plain``, ``hangs`` or ``breaks`` at its start, ``changes``, or
``serves`` at an address, whose port it writes to its output.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER, LIKE = Path(sys.argv[1]), sys.argv[2]
CHILD = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
STARTS = FOLDER / "starts"


def add() -> str:
    return "2"


def hang() -> str:
    (FOLDER / "hangs").touch()
    time.sleep(600)
    return ""


def crash() -> str:
    with (FOLDER / "crashes").open("a") as file:
        file.write("1\n")
    os._exit(9)


def flood() -> str:
    for _ in range(40):
        sys.stdout.write("x" * 2**20)
    return ""


def linger() -> str:
    """Stays when its input ends."""
    import atexit

    atexit.register(time.sleep, 600)
    return "here to stay"


def spawn() -> str:
    """Starts two programs, one of them out of its process group, and prints where it must not."""
    print("this is no message")
    print("noise\n" * 50_000, file=sys.stderr)
    children = [subprocess.Popen(CHILD), subprocess.Popen(CHILD, start_new_session=True)]
    (FOLDER / "children").write_text("\n".join(str(child.pid) for child in children))
    return "spawned"


TOOLS = {tool.__name__: tool for tool in (add, hang, crash, flood, linger, spawn)}


def declared() -> list[dict]:
    other = LIKE == "changes" and len(STARTS.read_text().split()) > 1
    names = [*TOOLS, *(["add.more"] if other else [])]
    return [{"name": name, "inputSchema": {"type": "object", "properties": {}}} for name in names]


def answer(method: str, params: dict) -> dict:
    if method == "initialize":
        about = {"name": "bad", "version": "1.2"}
        return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": declared()}
    return {"content": [{"type": "text", "text": TOOLS[params["name"]]()}]}


def main() -> None:
    with STARTS.open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    if LIKE == "hangs":
        print("warming up", file=sys.stderr, flush=True)
        time.sleep(600)
    if LIKE == "breaks":
        sys.exit(f"no database, and the token is {os.environ['MCP_TEST_TOKEN']}")
    if LIKE == "serves":
        serve()
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            print(json.dumps(reply_to(request)), flush=True)


def reply_to(request: dict) -> dict:
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    if request["method"] in ("initialize", "tools/list", "tools/call"):
        return {**reply, "result": answer(request["method"], request.get("params", {}))}
    return {**reply, "error": {"code": -32601, "message": "Method not found"}}


def serve() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            allowed = self.headers["authorization"] == f"Bearer {os.environ['MCP_TEST_TOKEN']}"
            body = json.dumps(reply_to(request)).encode() if "id" in request and allowed else b""
            self.send_response((200 if body else 202) if allowed else 401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.send_error(405)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


main()
