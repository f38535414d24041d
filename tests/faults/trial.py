"""One run of the server with one fault, and the checks of its outcome.

The rules: the server keeps running and does not spin; a connection that the fault did not hit receives every
byte; a connection that it hit receives a prefix and then an end; new connections are
served; descriptors are released; the server stops on request.
"""

import tempfile
import time
from dataclasses import dataclass, field

from clients import Client, article, bulk, line, numbered, pump
from traced import Fault, Trace, Traced

# Long enough for any machine. Nothing waits this long in a successful run.
DEADLINE = 15.0
# After so many seconds without an end the signal is sent again.
LOST = 5.0

# After this long without a transfer, the trace is read to find out who was hit.
STALL = 0.3

# After these errors a call is repeated, and no connection is affected.
HARMLESS = ("EINTR", "EAGAIN")
SENDING = ("sendto", "sendmsg", "writev")
REPEATED = ("recvfrom", *SENDING)

# Errors of a send that mean that the connection is over. A real kernel would have ended the other
# direction too, and the server would notice there. The client resets its connection to reproduce
# that.
OVER = ("EPIPE", "ECONNRESET", "ECONNABORTED")


@dataclass
class Outcome:
    faults: tuple
    verdict: str = "ok"
    failures: list = field(default_factory=list)
    trace: Trace = field(default_factory=lambda: Trace(""))
    seconds: float = 0.0

    @property
    def reached(self):
        return {fault: self.hits(fault) for fault in self.faults}

    def hits(self, fault: Fault):
        name = fault.call.removeprefix("eventfd-")
        return sum(h.call == name and h.error == fault.error for h in self.trace.hits)


class Ended(Exception):
    """The run cannot go on; the reason is among its failures."""


def run(program, faults, calls=(), usual_waits=None, tls=None):
    """`usual_waits` is the number of waits in a run without a fault. `tls` is the context of the clients, if the server
    uses TLS."""
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        calls = calls or [fault.call for fault in faults]
        server = Traced(program, faults, calls, directory)
        trial = Trial(server, faults, tls)
        try:
            trial.run()
        except Ended:
            pass
        except OSError as error:
            # Usually access to a server that has just ended. The sweep continues with the next run.
            trial.fail(f"the run was aborted: {error!r}")
        finally:
            for client in trial.clients:
                client.close()
            server.kill()
        trial.judge(usual_waits)
        return trial.outcome


class Trial:
    def __init__(self, server, faults, tls):
        self.server = server
        self.tls = tls
        self.outcome = Outcome(faults)
        self.for_good = any(fault.for_good for fault in faults)
        self.clients = []

    def run(self):
        self.address = self.server.address(DEADLINE)
        if self.address is None:
            self.check_start_failure()
        self.baseline = self.server.descriptors()
        bystanders = [self.bystander(n) for n in range(3)]
        victims = self.victims()
        more_than_fits = [bulk(100_000 + n) for n in range(50)]
        deaf = self.client("deaf", more_than_fits, window=99, reluctant=True)
        deaf.deaf = True
        self.converse([client for client in self.clients if not client.deaf])
        self.idle(bystanders)
        if self.for_good:
            self.stop_the_fault()
        deaf.deaf = False
        self.converse(self.clients)
        for bystander in bystanders:
            if not bystander.lost:
                bystander.ask(numbered(bystander.name, 999, 5000), bulk(5000))
        self.converse(self.clients)
        self.check_new_connections()
        for client in (*bystanders, *victims, deaf):
            client.close()
        self.check_descriptors()
        self.stop()

    def client(self, name, exchanges, **options):
        self.alive()
        try:
            client = Client(self.address, name, exchanges, tls=self.tls, **options)
        except OSError as error:
            self.alive(1.0)  # the server is probably ending
            self.fail(f"{name} cannot connect: {error}")
            raise Ended from error
        self.clients.append(client)
        return client

    def bystander(self, number):
        """A client that is active throughout. It is up before the next one connects, so the first
        calls of the server are the same in every run."""
        client = self.client(f"bystander-{number}", small_talk(number))
        self.converse([client], lambda: client.received or client.lost)
        return client

    def victims(self):
        """Connections of eight kinds at once: each kind causes different calls."""
        talk = [numbered("victim", n, 200 * n) for n in range(4)]
        lots = [bulk(100_000 + n) for n in range(30)]
        long = [numbered("long", n, 300_000) for n in range(3)]
        ends = ("close", "quit", "half-close", "reset")
        victims = [self.client(end, talk + [bulk(9000)], ending=end) for end in ends]
        victims.append(self.client("gone at once", [], ending="close"))
        victims[-1].close()
        victims.append(self.client("reset at once", [], ending="close"))
        victims[-1].reset()
        for gone in victims[-2:]:
            gone.finished = True
        for name, exchanges in (("greedy", lots), ("long", long)):
            victims.append(
                self.client(name, exchanges, window=99, ending="close", reluctant=True)
            )
        return victims

    # ---- steps of a run

    def check_start_failure(self):
        """A fault before the server listens may end it, if it prints the reason."""
        status = self.server.exited(DEADLINE)
        errors = self.server.errors()
        if status is None:
            self.fail("neither listens nor ends")
        elif status == 1 and errors.strip() and "panicked" not in errors:
            self.outcome.verdict = "no start"
        else:
            self.fail(f"ended with {status} before it listened: {errors[-300:]!r}")
        raise Ended

    def alive(self, seconds=0.0):
        status = self.server.exited(seconds)
        if status is None:
            return
        errors = self.server.errors()
        if self.for_good and status == 1 and "wait for events" in errors:
            # Documented: if the wait fails permanently, `run` returns an error.
            self.outcome.verdict = "gave up"
        else:
            self.fail(f"the server ended with {status}: {errors[-300:]!r}")
        raise Ended

    def converse(self, clients, until=None):
        """Runs the clients until all have their replies, or cannot get them."""
        until = until or (lambda: not any(client.pending() for client in clients))
        waited = 0.0
        while not pump(self.clients, until, STALL):
            looked = time.monotonic()
            self.alive()
            tracing = self.server.tracer() != 0
            if self.for_good and tracing:
                return
            affected = self.affected()
            hanging = [c for c in clients if c.pending() and c.port in affected]
            for client in hanging:
                hit = affected[client.port]
                if hit.call in SENDING and hit.error in OVER:
                    client.reset()
                else:
                    self.fail(f"{client} was hit and gets neither data nor an end: {hit.text}")
                client.lose("hit")
            # strace's output of a server that spins takes long to read. That time counts as waiting
            # too.
            waited += STALL + time.monotonic() - looked
            if not hanging and waited > DEADLINE:
                for client in clients:
                    if client.pending():
                        self.fail(f"{client} receives nothing more")
                raise Ended
        self.alive()

    def idle(self, bystanders):
        """No client sends, and one does not read: the server must do nothing."""
        settled = self.server.activity()
        for _ in range(5):
            pump(bystanders, lambda: False, 0.15)
            self.alive()
            before, settled = settled, self.server.activity()
            switches, ticks = (after - then for after, then in zip(settled, before))
            # One retry of an accept that waits for descriptors is within the bound. A server that
            # spins has thousands of switches.
            if switches <= 60 and ticks <= 2:
                return
        self.fail(f"spins: {switches} switches and {ticks} ticks of CPU in 0.15 s of silence")

    def stop_the_fault(self):
        if not self.server.detach(DEADLINE):
            self.alive()
            self.fail("strace does not detach")
            raise Ended

    def check_new_connections(self):
        served = 0
        for attempt in range(30):
            client = self.client(f"new-{attempt}", [line(b"hello"), article(attempt)])
            self.converse([client])
            served += client.finished
            client.close()
            if served == 2:
                return
            if client.lost and client.port not in self.affected():
                return  # judge() reports it
        self.fail("new connections are not served")

    def check_descriptors(self):
        for _ in range(int(DEADLINE / 0.005)):
            now = self.server.descriptors()
            if now == self.baseline:
                return
            if self.server.exited(0.005) is not None:
                self.alive()
        more = {n: what for n, what in now.items() if self.baseline.get(n) != what}
        self.fail(f"descriptors do not return to {len(self.baseline)}: {more}")

    def stop(self):
        self.alive()
        self.server.interrupt()
        status = self.server.exited(LOST)
        if status is None and any(fault.call in SENDING for fault in self.outcome.faults):
            # The handler wakes its thread with a send. If that is the call that fails, the signal is not noticed before
            # the next one.
            self.server.interrupt()
            status = self.server.exited(DEADLINE)
        if status is None:
            self.fail("does not stop")
        elif status != 0:
            self.fail(f"stops with {status}: {self.server.errors()[-300:]!r}")

    # ---- checks after the run

    def fail(self, what):
        self.outcome.failures.append(what)
        self.outcome.verdict = "FAILED"

    def affected(self):
        """The clients whose connection the fault may have ended."""
        return {
            hit.port: hit
            for hit in self.server.trace().hits
            if hit.port and not (hit.error in HARMLESS and hit.call in REPEATED)
        }

    def judge(self, usual_waits):
        self.outcome.trace = self.server.trace()
        # The removal of a registered descriptor never fails on a real kernel. Usually the close
        # that follows makes up for it, but a listener that pauses is not closed.
        if self.outcome.trace.left_in:
            self.outcome.verdict = "impossible"
            self.outcome.failures.clear()
            return
        affected = self.affected()
        for client in self.clients:
            if client.corrupt:
                self.fail(f"{client}: {client.corrupt}")
            elif client.lost and client.port not in affected and self.outcome.verdict != "gave up":
                self.fail(f"{client} was not hit, but its connection was lost: {client.lost}")
        if self.outcome.verdict in ("no start", "gave up") and not self.outcome.trace.hits:
            self.fail(f"no fault was injected, but the server reports: {self.server.errors()[-300:]!r}")
        errors = self.server.errors()
        if "panicked" in errors:
            self.fail(f"a panic: {errors[-300:]!r}")
        waits = self.outcome.trace.waits
        if usual_waits and waits > 10 * usual_waits + 500:
            self.fail(f"{waits} waits instead of about {usual_waits}")


def small_talk(number):
    """The exchanges of a bystander: short and long lines, and replies sent with gathered writes."""
    name = f"bystander-{number}"
    for n in range(40):
        if n % 7 == 3:
            yield bulk(5000 + 100 * number + n)
        elif n % 5 == 4:
            yield numbered(name, n, 3000)
        else:
            yield numbered(name, n)
