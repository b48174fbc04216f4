"""A real MCP server, written with the server's side of the library. Its argument: a folder."""

import base64
import os
import sys
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

FOLDER = Path(sys.argv[1])
server = MCPServer("shop")


@server.tool()
def add(a: int, b: int) -> str:
    """Adds two\x1b[2J numbers.\u202e\U000e0041"""
    return str(a + b)


@server.tool()
async def slow(seconds: float) -> str:
    """Takes its time."""
    await anyio.sleep(seconds)
    return "slept"


@server.tool()
def fail() -> str:
    """Fails."""
    token = os.environ["MCP_TEST_TOKEN"]
    raise ToolError(f"no such day, {token} {token[:3]}\u200b{token[3:]}")


@server.tool()
def big(characters: int) -> str:
    """Says much."""
    return "x" * characters


@server.tool()
def picture() -> list:
    """Shows a picture."""
    return ["a cat", Image(data=base64.b64decode("iVBORw0KGgo="), format="png")]


@server.tool(structured_output=False)
def count(context: Context) -> str:
    """Counts once for each key."""
    key = (context.request_context.meta or {}).get("ratchet/idempotencyKey", "none")
    with (FOLDER / "count").open("a") as file:
        file.write(f"{key}\n")
    return key


@server.tool()
def environment() -> str:
    """Shows what it sees."""
    return "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()))


server.run("stdio")
