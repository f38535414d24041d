"""Good clients, which must be served whatever the others do. They know each reply in advance."""

import asyncio
import random
import socket
import time

from crowd import LATE, Kind, BadReply

# The articles of `--demo`, made by independent code.
ARTICLES = 1000
GROUP = "misc.test"
NAME = "news.asynchat.invalid"
TEXT = "The quick brown fox jumps over the lazy dog, again and again.\r\n" * 28
POSTS = "asynchat.test"


def demo(n):
    # One article for each second, within one day.
    date = time.strftime("Sun, 9 Sep 2001 %H:%M:%S +0000", time.gmtime(1_000_000_000 + n))
    head = (
        f"Path: demo!not-for-mail\r\nFrom: Demo <demo@example.invalid>\r\nNewsgroups: {GROUP}\r\n"
        f"Subject: Generated article {n}\r\nDate: {date}\r\nMessage-ID: <{n}@demo.invalid>\r\n"
        f"Xref: {NAME} {GROUP}:{n}\r\n"
    )
    return head, f"Article {n}\r\n{TEXT}", date


def overview(n):
    head, body, date = demo(n)
    size = len(head) + 2 + len(body)
    return (
        f"{n}\tGenerated article {n}\tDemo <demo@example.invalid>\t{date}\t<{n}@demo.invalid>\t\t"
        f"{size}\t29\tXref: {NAME} {GROUP}:{n}\r\n"
    )


def exchanges():
    """Commands that may be sent in any order, each with its complete reply."""
    yield "GARGLE", "500 unknown command\r\n"
    yield "STAT 999999", "423 no article with that number\r\n"
    yield f"GROUP {GROUP}", GREETED[1][1]
    for n in range(1, ARTICLES + 1, 37):
        head, body, _ = demo(n)
        named = f"{n} <{n}@demo.invalid>\r\n"
        yield f"STAT {n}", f"223 {named}"
        yield f"HEAD {n}", f"221 {named}{head}.\r\n"
        yield f"BODY {n}", f"222 {named}{body}.\r\n"
        yield f"ARTICLE {n}", f"220 {named}{head}\r\n{body}.\r\n"
        last = min(n + 9, ARTICLES)
        rows = "".join(map(overview, range(n, last + 1)))
        yield f"OVER {n}-{last}", f"224 overview information follows\r\n{rows}.\r\n"


GREETED = [
    (None, "200 asynchat news server ready, posting allowed\r\n"),
    (f"GROUP {GROUP}", f"211 {ARTICLES} 1 {ARTICLES} {GROUP}\r\n"),
]
EXCHANGES = list(exchanges())
QUIT = ("QUIT", "205 goodbye\r\n")


class Session:
    """A connection that compares each reply with the expected one."""

    def __init__(self, context, buffer=None):
        self.context, self.came = context, bytearray()
        self.socket = context.open_socket(buffer)

    async def __aenter__(self):
        self.loop = asyncio.get_running_loop()
        await self.in_time(self.loop.sock_connect(self.socket, ("127.0.0.1", self.context.port)))
        await self.expect(*GREETED[0])
        await self.ask(*GREETED[1])
        return self

    async def __aexit__(self, *_):
        self.socket.close()

    async def in_time(self, action):
        """Good clients respect all limits, so an error is as wrong as a late reply."""
        try:
            return await asyncio.wait_for(action, LATE)
        except TimeoutError:
            raise BadReply(f"nothing for {LATE} s, after {bytes(self.came[-80:])!r}") from None
        except ConnectionError as error:
            raise BadReply(f"{error}, after {bytes(self.came[-80:])!r}") from None

    async def say(self, text):
        await self.loop.sock_sendall(self.socket, text.encode())

    async def receive(self, size=1 << 16):
        chunk = await self.in_time(self.loop.sock_recv(self.socket, size))
        self.came += chunk
        return chunk

    async def expect(self, command, reply):
        wanted = reply.encode()
        # Stops at the first wrong octet, because the missing ones would not arrive.
        while len(self.came) < len(wanted) and wanted.startswith(self.came):
            if not await self.receive():
                raise BadReply(f"{command}: the end, after {bytes(self.came[-80:])!r}")
        if not self.came.startswith(wanted):
            raise BadReply(f"{command}: {difference(bytes(self.came), wanted)}")
        del self.came[: len(wanted)]
        self.context.tally.requests += command is not None

    async def until(self, end):
        """The text before `end`."""
        while end.encode() not in self.came:
            if not await self.receive():
                raise BadReply(f"the end, after {bytes(self.came[-80:])!r}")
        before, _, self.came = self.came.partition(end.encode())
        return before.decode()

    async def ask(self, command, reply):
        asked = time.perf_counter()
        await self.in_time(self.say(f"{command}\r\n"))
        await self.expect(command, reply)
        self.context.tally.latencies.append(time.perf_counter() - asked)

    async def end(self):
        while await self.receive():
            pass
        if self.came:
            raise BadReply(f"after the last reply: {bytes(self.came[:80])!r}")
        return "goodbye"


async def patient(context):
    """Sends a command after each reply."""
    async with Session(context) as session:
        for exchange in random.choices(EXCHANGES, k=200):
            if context.over:
                break
            await session.ask(*exchange)
        await session.ask(*QUIT)
        return await session.end()


async def impatient(context):
    """Pipelines all commands, and reads the replies meanwhile."""
    async with Session(context) as session:
        script = [*random.choices(EXCHANGES, k=2000), QUIT]
        return await barrage(session, script)


async def barrage(session, script):
    commands = "".join(f"{command}\r\n" for command, _ in script)
    saying = asyncio.create_task(session.say(commands))
    try:
        for exchange in script:
            await session.expect(*exchange)
        return await session.end()
    finally:
        # Sending is complete, or an exception is being raised; its own would be the same one.
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def half_closer(context):
    """Half-closes after its commands, and receives all replies."""
    async with Session(context) as session:
        script = random.choices(EXCHANGES, k=50)
        await session.say("".join(f"{command}\r\n" for command, _ in script))
        session.socket.shutdown(socket.SHUT_WR)
        for exchange in script:
            await session.expect(*exchange)
        return await session.end()


async def slow(context):
    """Reads slowly into a small buffer, and receives everything."""
    async with Session(context, buffer=32 * 1024) as session:
        script = [EXCHANGES[3 + n % 100] for n in range(200)] + [QUIT]
        await session.say("".join(f"{command}\r\n" for command, _ in script))
        for exchange in script:
            while not session.came.startswith(exchange[1].encode()):
                await asyncio.sleep(0 if context.over else 0.02)
                if not await session.receive(16 * 1024):
                    break
            await session.expect(*exchange)
        return await session.end()


def difference(came, wanted):
    pairs = enumerate(zip(came, wanted))
    at = next((n for n, (a, b) in pairs if a != b), len(came))
    return f"octet {at}: {came[at : at + 60]!r} instead of {wanted[at : at + 60]!r}"


serial = 0


async def poster(context):
    """Posts articles, and reads them."""
    global serial
    async with Session(context) as session:
        for _ in range(5):
            serial += 1
            message_id = f"<{serial}.{time.time_ns():x}@client.invalid>"
            head = (
                f"From: Tester <tester@client.invalid>\r\nNewsgroups: {POSTS}\r\nSubject: siege\r\n"
                f"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: {message_id}\r\n"
            )
            body = "".join(f"..{n} of a post\r\n" for n in range(60))
            await session.ask("POST", "340 send the article, and a line with a dot\r\n")
            await session.ask(f"{head}\r\n{body}.", "240 article received\r\n")
            path = f"Path: {NAME}!.POSTED!not-for-mail\r\n"
            # Other clients post too, so only the server knows the number.
            place = f"{NAME} {POSTS}:"
            await session.ask(f"HDR Xref {message_id}", f"225 headers follow\r\n0 {place}")
            number = await session.until("\r\n.\r\n")
            xref = f"Xref: {place}{number}\r\n"
            whole = f"220 0 {message_id}\r\n{path}{head}{xref}\r\n{body}.\r\n"
            await session.ask(f"ARTICLE {message_id}", whole)
        await session.ask(*QUIT)
        return await session.end()


ADDRESS = "127.0.0.1"
KINDS = [
    Kind("patient", patient, 8, ADDRESS),
    Kind("impatient", impatient, 2, ADDRESS, pause=0.2),
    Kind("half-closer", half_closer, 2, ADDRESS),
    Kind("slow reader", slow, 2, ADDRESS),
    # The spool has room for all 180 posts, each of which counts as less than 2.5 KiB.
    Kind("poster", poster, 2, ADDRESS, pause=1.5, most=18),
]
