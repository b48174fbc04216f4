"""A provider of both APIs that costs little: a tool call each turn and, in the last, an answer, after a delay.

    python turns_server.py DELAY TURNS

Writes its port to its output. On the standard library alone, so that it starts at once.
"""

import asyncio
import json
import sys
from typing import Any

DELAY, TURNS = float(sys.argv[1]), int(sys.argv[2])
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def by_openai(turn: int, last: bool) -> dict[str, Any]:
    function = {"name": "look", "arguments": json.dumps({"place": f"at {turn}"})}
    call = {"id": f"c{turn}", "type": "function", "function": function}
    said = {"content": "done"} if last else {"content": None, "tool_calls": [call]}
    message = {"role": "assistant", **said}
    choice = {"index": 0, "finish_reason": "stop" if last else "tool_calls", "message": message}
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def by_anthropic(turn: int, last: bool) -> dict[str, Any]:
    use = {"type": "tool_use", "id": f"c{turn}", "name": "look", "input": {"place": f"at {turn}"}}
    content = [{"type": "text", "text": "done"}] if last else [use]
    usage = {"input_tokens": 100, "output_tokens": 7}
    why = {"stop_reason": "end_turn" if last else "tool_use", "stop_sequence": None}
    return {"id": "x", "type": "message", "role": "assistant", "model": "m", "content": content, "usage": usage, **why}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:] if ": " in line)
            body = json.loads(await reader.readexactly(int(fields["content-length"])))
            await asyncio.sleep(DELAY)
            turn = sum(message["role"] == "assistant" for message in body["messages"])
            answer = by_openai if "/chat/" in head.split()[1] else by_anthropic
            data = json.dumps(answer(turn, turn >= TURNS - 1)).encode()
            writer.write(HEAD % len(data) + data)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
