"""A server that echoes lines, on the streams of Python's asyncio."""

import asyncio
import os
import sys
import threading


async def echo(reader, writer):
    try:
        while True:
            line = await reader.readuntil(b"\r\n")
            writer.write(line)
            await writer.drain()
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()


async def serve():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    print("listening on %s:%d" % server.sockets[0].getsockname(), flush=True)
    async with server:
        await server.serve_forever()


def exit_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=exit_with_parent, daemon=True).start()
asyncio.run(serve())
