#!/usr/bin/env python3
"""Sends the same to the example `kvd` and to Redis, at random, and compares all replies.

    python3 tests/kvd_random.py target/release/examples/kvd            # all, about a minute
    python3 tests/kvd_random.py target/release/examples/kvd clients    # one check

KVD_SEED chooses another seed, KVD_ROUNDS how often the random checks are repeated, with the next seed each time. What
is left out here differs on purpose, and the documentation of kvd says so, or is of no defined order in Redis.
Without redis-server (package `redis-server` of Debian) the checks are skipped with a message, unless KVD_REQUIRE is
set. Traffic stays on the loopback interface, and every started process is ended.
"""

import contextlib
import itertools
import os
import random
import re
import socket
import sys
import tempfile
import time

import kvd_client
from kvd_client import DEADLINE, Client, has, kvd
from kvd_protocol import CASES, encode
from redis_server import redis

SEED = int(os.environ.get("KVD_SEED", "1"))
ROUNDS = int(os.environ.get("KVD_ROUNDS", "1"))
IN_2100 = kvd_client.IN_2100


def main():
    if has("redis-server"):
        for name in sys.argv[2:] or list(CHECKS):
            CHECKS[name]()
            print(f"{name}: passed", flush=True)


@contextlib.contextmanager
def both(workers=1):
    kvd_client.workers = workers
    with kvd() as (ours, _), redis() as (theirs, _):
        yield ours, theirs


def sorted_deeply(reply):
    kind, content = reply
    if isinstance(content, list):
        return kind, sorted((sorted_deeply(it) for it in content), key=repr)
    return reply


# ---- wrong arguments

# A valid example of each command. `K` is a key.
COMMANDS = """
set K v|set K v ex 100|set K v px 100000 nx|set K v get|set K v keepttl xx|get K|getex K ex 100|getex K persist|getdel K
getset K v|append K v|strlen K|setrange K 3 v|getrange K 0 3|substr K 0 3|incr K|decr K|incrby K 3|decrby K 3
incrbyfloat K 1.5|mset K v K w|msetnx K v K w|mget K K|setnx K v|setex K 100 v|psetex K 100000 v|del K K|unlink K
exists K K|type K|touch K|rename K K|renamenx K K|copy K K|copy K K replace|copy K K db 1|move K 1|persist K|ttl K
expiretime K|expire K 100 nx|expireat K 4102444800|pexpireat K 4102444800000 lt|expire K 1000 gt
dbsize|keys k*|scan 0 match k* count 100 type string|select 0|swapdb 0 1
lpush K a b|rpush K a b|lpushx K a|rpushx K a|lpop K|lpop K 2|rpop K|rpop K 2|llen K|lindex K 0|lset K 0 x|lrange K 0 -1
ltrim K 0 5|linsert K before a b|linsert K after a b|lrem K 1 a|lpos K a rank 1 count 2 maxlen 10|lmove K K left right
rpoplpush K K|blpop K K 0.001|brpop K 0.001|blmove K K left right 0.001|brpoplpush K K 0.001
hset K a 1 b 2|hget K a|hgetall K|hkeys K|hvals K|hlen K|hexists K a|hdel K a|hmset K a 1|hmget K a b|hsetnx K a 1
hincrby K n 1|hincrbyfloat K f 1.5|hstrlen K a|hscan K 0 match * count 10|sadd K a b|scard K|smembers K|sismember K a
smismember K a b|srem K a|smove K K a|sinter K K|sunion K K|sdiff K K|sinterstore K K K|sunionstore K K K
sdiffstore K K K|sintercard 2 K K limit 1|sscan K 0 match * count 10|zadd K 1 a 2 b|zadd K nx ch 1 a|zadd K xx gt incr 1 a
zscore K a|zmscore K a b|zcard K|zincrby K 1 a|zrank K a|zrevrank K a|zrem K a|zrange K 0 -1 withscores
zrange K 0 1 byscore limit 0 1|zrange K - + bylex rev|zrange K 0 -1 rev|zrangestore K K 0 -1|zrevrange K 0 -1 withscores
zrangebyscore K -inf +inf withscores limit 0 1|zrevrangebyscore K +inf -inf|zrangebylex K - + limit 0 1
zrevrangebylex K + -|zcount K 0 1|zlexcount K - +|zpopmin K|zpopmin K 1|zpopmax K|zpopmax K 1|bzpopmin K K 0.001
bzpopmax K 0.001|zremrangebyscore K 0 1|zremrangebyrank K 0 0|zremrangebylex K - (a
zunion 2 K K weights 2 1.5 aggregate max withscores|zinter 2 K K weights 2 3 withscores|zdiff 2 K K withscores
zunionstore K 2 K K weights 1 2 aggregate min|zinterstore K 2 K K aggregate sum|zdiffstore K 2 K K|zintercard 2 K K limit 1
lmpop 2 K K left count 2|lmpop 1 K right|zmpop 2 K K min count 2|zmpop 1 K max|blmpop 0.001 2 K K right count 2|bzmpop 0.001 1 K min
sort K|sort K by w_* limit 0 5 get # asc store K|sort_ro K desc|publish ch msg|pubsub channels|pubsub numsub ch
pubsub numpat|subscribe ch|unsubscribe ch|psubscribe c*|punsubscribe c*|ping|ping x|echo x|watch K|unwatch|multi|exec
discard|auth default x|reset|client getname|client setname x|client kill 1.2.3.4:5
client kill id 99999 skipme yes|client kill type pubsub|client kill user default id 99999|client unblock 99999 timeout
client no-evict on|client tracking on|client tracking on optin|client tracking off|client caching yes|client trackinginfo|client getredir
config resetstat|command getkeys get a|command getkeys object encoding a|client pause 0 write|client unpause
command getkeysandflags set a b get|command getkeysandflags lmove a b left right|command list filterby module x|flushdb|flushall|flushdb sync|flushall async
"""
VALUES = [
    "", "0", "-1", "1", "x", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1.5", "nan", "(1", "[a",
    "(", "[", "-", "+", " 1", "1 ", "01", "+1", "1e3", "nx", "limit", "withscores", "store", "*", "a\r\nb", "left", "ex", "-0",
    "3.0e2", "-1.5", "kS", "kL", "kN",
]  # fmt: skip
SETUP = "set kT abc|set kI 10|rpush kL 3 1 2|hset kH a 1 b x|sadd kS 1 2 3|zadd kZ 1 a 2 b 3 c|set w_1 3|set w_2 1"
KEYS = "kT", "kI", "kL", "kH", "kS", "kZ", "kN"
# How long they wait is the first argument of some, and the last one of the others.
POPS_OF_MANY = "blmpop", "bzmpop"
WAITING = "blpop", "brpop", "blmove", "brpoplpush", "bzpopmin", "bzpopmax", *POPS_OF_MANY
# These change what the later replies of the connection are.
CHANGES_CONNECTION = {"multi", "watch", "subscribe", "psubscribe", "hello", "select", "swapdb", "reset", "auth", "client"}


def wrong(rng, args):
    """The command with some arguments replaced, added or left out."""
    args = [rng.choice(KEYS) if it == "K" else it for it in args]
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        change = rng.random()
        if change < 0.5 and len(args) > 1:
            args[rng.randrange(1, len(args))] = rng.choice(VALUES)
        elif change < 0.75:
            args.insert(rng.randrange(1, len(args) + 1), rng.choice(VALUES))
        elif len(args) > 1:
            args.pop(rng.randrange(1, len(args)))
    return args


def is_comparable(args):
    name, rest = args[0], args[1:]
    if name == "command" and len(args) < 3:
        return False
    if name in WAITING and rest and rest[0 if name in POPS_OF_MANY else -1] not in ("0.001", "x", "", "-1", "nan", "kS"):
        return False
    if name == "client" and (len(args) == 1 or len(args) > 4 and "id" not in rest or args[1] == "no-evict"):
        return False
    # A kill by other filters ends the connections of this test.
    if args[:2] == ["client", "kill"] and len(args) > 3 and not {"id", "1.2.3.4:5"} & set(rest):
        return False
    # kvd takes several ids.
    if args[:2] == ["client", "kill"] and "id" in rest and len(args) % 2 == 1 and len(args) > 3:
        return False
    # ZINCRBY takes the options of ZADD in Redis, and a score of -0 is 0 in kvd. 20 digits are more than Redis calculates
    # with. A cursor that SCAN has not returned may be any place. The others depend on the time, or are large.
    is_large = any(len(it) > 17 and it.strip("-").isdigit() for it in rest)
    is_cursor = name.endswith("scan") and any(it not in ("0", "") for it in rest[:2] if not it.startswith("k"))
    is_option = name == "zincrby" and any(it in ("nx", "ch") for it in rest)
    is_zero = name in ("zadd", "zincrby") and "-0" in rest
    is_time = name in ("ttl", "expire", "pexpire", "set", "setex", "psetex", "getex") and any(it in ("1", "10") for it in rest)
    keeps_digits = name in ("incrbyfloat", "hincrbyfloat", "zadd", "zincrby", "setrange")
    return not (is_cursor or is_option or is_zero or is_time or (is_large and keeps_digits))


def state(client, pattern="*"):
    """The keys with their values, and when they expire: exactly if that is far away."""
    found = []
    for _, key in sorted(client.call("keys", pattern)[1]):
        kind = client.call("type", key)[1]
        command = {
            b"string": ("get", key), b"list": ("lrange", key, 0, -1), b"hash": ("hgetall", key), b"set": ("smembers", key),
            b"zset": ("zrange", key, 0, -1, "withscores"),
        }[kind]  # fmt: skip
        value = client.call(*command)
        expires = int(client.call("expiretime", key)[1])
        when = expires if expires < 0 or expires >= IN_2100 - 100 else "soon"
        found.append((key, kind, value if kind == b"list" else sorted_deeply(value), when))
    return found


def arguments():
    """Every error message, and what a command with odd arguments does."""
    commands = [it.split(" ") for it in COMMANDS.strip().replace("\n", "|").split("|")]
    with both() as ports:
        for seed in range(SEED, SEED + ROUNDS):
            rng = random.Random(seed)
            others = [Client(port) for port in ports]
            for _ in range(300):
                for other in others:
                    for command in ["flushall", *SETUP.split("|")]:
                        other.call(*command.split(" "))
                sent = []
                clients = [Client(port) for port in ports]
                for _ in range(10):
                    args = wrong(rng, rng.choice(commands))
                    if not is_comparable(args):
                        continue
                    sent.append(args)
                    replies = [until_fence(client, args) for client in clients]
                    assert replies[0] == replies[1], (seed, sent, *replies)
                    if args[0] in CHANGES_CONNECTION:
                        break
                states = [state(other) for other in others]
                assert states[0] == states[1], (seed, sent, *states)
                for client in clients:
                    client.close()
            for args in commands:
                request = ["command", "getkeysandflags", *args]
                replies = [other.call(*request) for other in others]
                assert replies[0] == replies[1], (request, *replies)


def until_fence(client, args):
    """The replies to a command."""
    client.send(*args)
    client.send("ping", "fence")
    replies = []
    while True:
        replies.append(sorted_deeply(client.receive()))
        if b"fence" in repr(replies[-1]).encode() or replies[-1] == (b"+", b"QUEUED") and len(replies) > 1:
            return replies


# ---- several clients


def random_command(rng):
    key, other = (f"k{rng.randrange(5)}" for _ in range(2))
    text, number = rng.choice("abcdef"), rng.randrange(-3, 12)
    return rng.choice(
        [
            ("set", key, text), ("set", key, number), ("get", key), ("append", key, text), ("incr", key), ("incrbyfloat", key, number / 4),
            ("getset", key, text), ("getdel", key), ("setnx", key, text), ("mset", key, text, other, number), ("msetnx", key, text, other, 1),
            ("mget", key, other), ("set", key, text, "exat", IN_2100 + number), ("set", key, text, "get"), ("set", key, text, "nx", "get"),
            ("getex", key, "persist"), ("set", key, text, "pxat", 1), ("del", key), ("del", key, other), ("exists", key, other), ("type", key),
            ("rename", key, other), ("renamenx", key, other), ("copy", key, other), ("copy", key, other, "replace"),
            ("copy", key, other, "db", 1), ("move", key, 1), ("expireat", key, IN_2100 + number), ("pexpireat", key, 1),
            ("expireat", key, IN_2100 + number, "gt"), ("persist", key), ("pexpiretime", key),
            ("lpush", key, text, number), ("rpush", key, text), ("rpush", key, text, number, text), ("lpushx", key, text), ("lpop", key),
            ("rpop", key, 2), ("llen", key), ("lrange", key, 0, -1), ("lrem", key, number, text), ("ltrim", key, number, 5),
            ("linsert", key, "before", text, number), ("lset", key, number, text), ("lmove", key, other, "left", "right"),
            ("blpop", key, other, 0), ("blpop", key, 0), ("brpop", key, 0), ("blmove", key, other, "left", "right", 0),
            ("blmove", key, other, "right", "left", 0), ("brpoplpush", key, other, 0), ("bzpopmin", key, other, 0), ("bzpopmax", key, 0),
            ("hset", key, text, number), ("hget", key, text), ("hdel", key, text), ("hgetall", key), ("hincrby", key, text, number),
            ("sadd", key, text, number), ("srem", key, text), ("smembers", key), ("smove", key, other, text),
            ("sinterstore", key, other, "k1"), ("sunionstore", key, other, "k1"), ("sdiffstore", key, other, "k1"),
            ("zadd", key, number, text), ("zadd", key, number, text, 1, "b"), ("zincrby", key, number, text), ("zrem", key, text),
            ("zrange", key, 0, -1, "withscores"), ("zpopmin", key), ("zpopmax", key, 2), ("zrangestore", key, other, 0, 2),
            ("zunionstore", key, 2, other, "k1", "weights", number, 0.5), ("zinterstore", key, 2, other, "k1", "aggregate", "min"),
            ("zdiffstore", key, 2, other, "k1"), ("zunion", 2, key, other, "withscores"), ("zintercard", 2, key, other),
            ("lmpop", 2, key, other, "left", "count", 2), ("zmpop", 2, key, other, "max", "count", 2),
            ("blmpop", 0, 2, key, other, "right", "count", 3), ("bzmpop", 0, 2, key, other, "min"),
            ("zremrangebyrank", key, 0, 0), ("sort", key, "store", other), ("sort", key, "alpha", "desc", "store", other),
            ("multi",), ("multi",), ("exec",), ("exec",), ("exec",), ("discard",), ("watch", key), ("watch", key, other), ("unwatch",),
            ("foo", "bar"), ("get",), ("lpush", key), ("select", 0), ("select", 0), ("select", 1), ("swapdb", 0, 1), ("flushdb",),
            ("ping",), ("echo", text), ("reset",), ("scan", 0, "count", 1000), ("keys", "*"), ("client", "setname", text),
            ("subscribe", text), ("unsubscribe", text), ("psubscribe", "[a-c]"), ("punsubscribe", "[a-c]"), ("publish", text, number),
            ("pubsub", "numpat"), ("pubsub", "numsub", text), ("client", "tracking", "on"), ("client", "tracking", "on", "noloop"),
        ]
    )  # fmt: skip


SUBSCRIBING = "subscribe", "unsubscribe", "psubscribe", "punsubscribe"


class Member(Client):
    """One of several clients. It may wait for an element."""

    def __init__(self, port, version):
        super().__init__(port)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = int(self.call("client", "id")[1])
        if version == 3:
            self.call("hello", 3)
        self.replies, self.messages, self.expected = [], [], 0

    def take(self):
        """Receives as long as something arrives at once."""
        self.socket.setblocking(False)
        while self.input.peek(1):
            self.socket.settimeout(DEADLINE)
            reply = self.receive()
            is_message = reply[0] == b">" and reply[1][0][1].decode() not in SUBSCRIBING
            (self.messages if is_message else self.replies).append(sorted_deeply(reply))
            self.socket.setblocking(False)
        self.socket.settimeout(DEADLINE)

    def is_waiting(self):
        return len(self.replies) < self.expected


class Scene:
    """One of the two servers, with its clients."""

    def __init__(self, port, versions):
        self.other = Client(port)
        until = time.monotonic() + DEADLINE
        # Those of the scene before may still execute something.
        while len(self.other.call("client", "list")[1].splitlines()) > 1:
            assert time.monotonic() < until
        self.other.call("flushall")
        self.members = [Member(port, version) for version in versions]

    def settle(self):
        """Waits until each client has its replies, or waits for an element. Returns who waits."""
        until = time.monotonic() + DEADLINE
        times = 0
        while times < 2:
            for member in self.members:
                member.take()
            lines = self.other.call("client", "list")[1].decode().splitlines()
            blocked = {int(re.search(r"id=(\d+)", line)[1]) for line in lines if re.search(r"flags=\S*b", line)}
            count = int(re.search(rb"blocked_clients:(\d+)", self.other.call("info", "clients")[1])[1])
            waiting = {member.number for member in self.members if member.is_waiting()}
            times = times + 1 if waiting == blocked and len(blocked) == count else 0
            assert time.monotonic() < until, (waiting, blocked, count)
        return [member.is_waiting() for member in self.members]

    def close(self):
        for client in [self.other, *self.members]:
            client.close()


def play(seed, ports):
    """Some steps of three clients, of which each is one client sending something."""
    rng = random.Random(seed)
    versions = [rng.choice([2, 3]) for _ in range(3)]
    tracks = rng.random() < 0.5
    scenes = [Scene(port, versions) for port in ports]
    log = [f"seed {seed}"]
    for _ in range(60):
        waiting, same = (scene.settle() for scene in scenes)
        assert waiting == same, (log, waiting, same)
        for ours, theirs in zip(*(scene.members for scene in scenes)):
            assert ours.replies == theirs.replies, (log, ours.replies, theirs.replies)
            until = time.monotonic() + DEADLINE
            # A message from another worker comes later.
            while len(ours.messages) < len(theirs.messages) and time.monotonic() < until:
                ours.take()
            assert ours.messages == theirs.messages, (log, ours.messages, theirs.messages)
            for member in (ours, theirs):
                member.expected -= len(member.replies)
                member.replies, member.messages = [], []
        free = [number for number in range(3) if not waiting[number]]
        if not free or rng.random() < 0.08:
            log.append(one_step_of_another(rng, scenes))
            continue
        number = rng.choice(free)
        commands = [random_command(rng) for _ in range(rng.choice([1, 1, 1, 2, 3, 6]))]
        # With version 2 a subscriber may send little else, and RESET returns to it. With version 3, a message to itself
        # is behind the reply of EXEC.
        left_out = {3: ("reset", "publish"), 2: SUBSCRIBING}[versions[number]]
        if any(waiting):
            # Redis wakes nobody if an old value is replaced, and the order of those that SWAPDB wakes is not defined.
            left_out += "sort", "zrangestore", "swapdb"
        commands = [it for it in commands if it[0] not in left_out]
        # Redis removes a key that is set with an expiry in the past some time later, which is a change.
        commands = [it for it in commands if ("pxat" not in it if tracks else it[:2] != ("client", "tracking"))]
        # What follows a wait is executed at the same time as what others send.
        first_wait = next((at for at, it in enumerate(commands) if it[0] in WAITING), len(commands))
        commands = commands[: first_wait + 1]
        log.append((number, commands))
        data = b"".join(encode(*command) for command in commands)
        cuts = [0, *sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 0, 1, 3]))), len(data)]
        for scene in scenes:
            member = scene.members[number]
            member.expected += len(commands)
            for start, end in zip(cuts, cuts[1:]):
                member.socket.sendall(data[start:end])
    for scene in scenes:
        scene.close()


def one_step_of_another(rng, scenes):
    """A client that is not one of the three serves those that wait, ends their wait, or lets a key expire."""
    key, member = f"k{rng.randrange(5)}", rng.randrange(3)
    command = rng.choice(
        [
            ("rpush", key, "x", "y"), ("lpush", key, "z"), ("zadd", key, 1, "m", 2, "n"), ("del", key), ("publish", "a", "other"),
            ("rpush", key, 1, 2, 3, 4), ("client", "unblock", member, rng.choice(["error", "timeout"])), ("pexpire", key, 1),
        ]
    )  # fmt: skip
    replies = []
    for scene in scenes:
        args = list(command)
        if command[0] == "client":
            args[2] = scene.members[member].number
        replies.append(scene.other.call(*args))
        until = time.monotonic() + DEADLINE
        while command[0] == "pexpire" and scene.other.call("exists", key) != (b":", b"0"):
            assert time.monotonic() < until, command
    assert replies[0] == replies[1], (command, replies)
    return command


def clients():
    """Transactions, watches, waits, messages and expiry of three clients, with one worker and with two."""
    for workers in (1, 2):
        with both(workers) as ports:
            for seed in range(SEED * 1000, SEED * 1000 + 25 * ROUNDS):
                play(seed, ports)


# ---- what counts as a change

# Commands that may leave their keys as they are.
FEW_CHANGES = """
smove K K 1|sadd K 1|srem K x|spop K 0|sunionstore K K|sinterstore K kN kN|hset K a 1|hincrby K a 0|hsetnx K a 9|hdel K x
zadd K 1 a|zadd K gt 0 a|zincrby K 0 a|zrem K x|zremrangebyscore K 8 9|zunionstore K 1 K|zrangestore K kN 0 -1|zpopmin K 0
lset K 0 q|ltrim K 0 -1|lrem K 0 x|linsert K before x a|lmove K K left left|lpop K 0|lpushx kN a|sort kN store K|append K |setrange K 0 abc
setrange kN 0 |set K x xx|incrby K 0|msetnx kN 1 K 2|expire K 100|expire K -1|getex K ex 100|rename K K|copy K K replace|move K 1
"""
SECOND_KEYS = "rpush kL2 q|hset kH2 a 5|sadd kS2 1 9|zadd kZ2 1 a"
OF_FAMILY = {"l": ["kL", "kL2"], "r": ["kL", "kL2"], "h": ["kH", "kH2"], "s": ["kS", "kS2"], "z": ["kZ", "kZ2"]}


def changes():
    """Which commands fail a transaction that watches one of their keys."""
    lists = [[it.split(" ") for it in text.strip().replace("\n", "|").split("|")] for text in (COMMANDS, FEW_CHANGES)]
    lists = [[it for it in commands if "K" in it and it[0] not in CHANGES_CONNECTION] for commands in lists]
    setup = [it.split(" ") for it in f"flushall|{SETUP}|{SECOND_KEYS}".split("|")]
    rng = random.Random(SEED)
    with both() as ports:
        pairs = [(Client(port), Client(port)) for port in ports]
        for _ in range(3000 * ROUNDS):
            args = rng.choice(rng.choice(lists))
            keys = [*KEYS, *OF_FAMILY.get(args[0][0], []) * 10]
            args = [rng.choice(keys) if it == "K" else it for it in args]
            watched = rng.choice([it for it in args if it in keys])
            outcomes = []
            for client, other in pairs:
                for command in setup:
                    other.call(*command)
                client.call("watch", watched)
                reply = sorted_deeply(other.call(*args))[0]
                client.call("multi")
                outcomes.append((reply, client.call("exec")))
            assert outcomes[0] == outcomes[1], (args, watched, *outcomes)


# ---- kill -9


NO_WRITES_OF_ONE = {
    *WAITING, *SUBSCRIBING, "multi", "exec", "discard", "watch", "unwatch", "foo", "select", "swapdb", "flushdb", "reset", "move",
    "scan", "keys", "client", "publish", "pubsub",
}  # fmt: skip


def random_writes(rng, prefix):
    """A command that changes keys with this prefix, or a transaction of some."""
    commands = []
    for _ in range(rng.choice([1, 1, 1, 4])):
        while True:
            command = random_command(rng)
            if command[0] not in NO_WRITES_OF_ONE and "db" not in command:
                break
        commands.append([f"{prefix}{it}" if re.fullmatch(r"k\d", str(it)) else it for it in command])
    return commands if len(commands) == 1 else [["multi"], *commands, ["exec"]]


def crash():
    """After kill -9 in the middle of writes, everything that was acknowledged is there, and of what was not, each
    transaction as a whole or not at all."""
    for workers, policy in itertools.product((1, 2), ("always", "everysec", "no")):
        kvd_client.workers = workers
        rng = random.Random(SEED)
        with tempfile.TemporaryDirectory() as folder, kvd() as (model_port, _):
            model = Client(model_port)
            for _ in range(ROUNDS):
                with kvd("--dir", folder, "--appendfsync", policy) as (port, process):
                    writers = {f"writer{number}:": Client(port) for number in range(6)}
                    for _ in range(rng.randrange(10, 60)):
                        sent = {prefix: random_writes(rng, prefix) for prefix in writers}
                        for prefix, writer in writers.items():
                            writer.socket.sendall(b"".join(encode(*command) for command in sent[prefix]))
                        for prefix, writer in writers.items():
                            for command in sent[prefix]:
                                reply = writer.receive()
                                same = model.call(*command)
                                assert sorted_deeply(reply) == sorted_deeply(same), (command, reply, same)
                    last = {prefix: random_writes(rng, prefix) for prefix in writers}
                    for prefix, writer in writers.items():
                        writer.socket.sendall(b"".join(encode(*command) for command in last[prefix]))
                    process.kill()
                    process.wait()
                    for writer in writers.values():
                        writer.close()
                with kvd("--dir", folder) as (port, _):
                    client = Client(port)
                    for prefix, commands in last.items():
                        stored, before = (state(it, prefix + "*") for it in (client, model))
                        if stored != before:
                            for command in commands:
                                model.call(*command)
                            assert stored == state(model, prefix + "*"), (prefix, commands, stored, before)


# ---- the protocol


def talk(port, pieces):
    """What the server sends until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for piece in pieces:
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)
            while piece := peer.recv(65536):
                received += piece
        except ConnectionError:
            pass  # Redis does not read what follows a protocol error
        return received


def protocol():
    """Inline commands, protocol errors, replies that are not wanted; and all of them cut at each byte."""
    with both() as (ours, theirs):
        for case in CASES:
            replies = [talk(port, [case]) for port in (ours, theirs)]
            assert replies[0] == replies[1], (case[:200], *replies)
            for at in range(1, len(case) if len(case) < 300 else 0):
                reply = talk(ours, [case[:at], case[at:]])
                assert reply == replies[0], (case[:at], case[at:], reply, replies[0])


# ---- SCAN


def scan():
    """What is there during the whole scan is returned, and once, however much comes and goes meanwhile."""
    with kvd() as (port, _):
        rng = random.Random(SEED)
        client, other = Client(port), Client(port)
        for command, insert, remove in (
            (("scan",), lambda name: ("set", name, 1), lambda name: ("del", name)),
            (("hscan", "h"), lambda name: ("hset", "h", name, 1), lambda name: ("hdel", "h", name)),
            (("sscan", "s"), lambda name: ("sadd", "s", name), lambda name: ("srem", "s", name)),
            (("zscan", "z"), lambda name: ("zadd", "z", 1, name), lambda name: ("zrem", "z", name)),
        ):
            client.call("flushall")
            stays = {b"stays:%d" % number for number in range(2000)}
            for name in stays:
                client.call(*insert(name))
            found, cursor, calls = [], b"0", 0
            while calls == 0 or cursor != b"0":
                kind, ((_, cursor), (_, items)) = client.call(*command, cursor, "count", 20)
                found += [text for _, text in items if text in stays]
                for _ in range(rng.randrange(30)):
                    other.call(*rng.choice([insert, remove])(b"comes:%d" % rng.randrange(3000)))
                calls += 1
            assert sorted(found) == sorted(stays), (command, len(found), len(set(found)))


# ---- limits


def limits():
    """A subscriber that does not read, and a request without an end, are cut off."""
    with both() as ports:
        for port in ports:
            client, subscriber = Client(port), Client(port)
            client.call("config", "set", "client-output-buffer-limit", "pubsub 1mb 0 0")
            client.call("config", "set", "client-query-buffer-limit", "1mb")
            subscriber.call("subscribe", "news")
            published = 0
            while client.call("publish", "news", "x" * 100_000) == (b":", b"1"):
                published += 1
                assert published < 1000
            assert published > 10, published
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as peer:
                with contextlib.suppress(ConnectionError):
                    peer.sendall(b"*2\r\n$4\r\nping\r\n$3000000\r\n" + b"x" * 2_000_000)
                    assert not peer.recv(100)
            assert client.call("ping") == (b"+", b"PONG")


CHECKS = {
    "arguments": arguments, "clients": clients, "changes": changes, "crash": crash, "protocol": protocol, "scan": scan,
    "limits": limits,
}  # fmt: skip

if __name__ == "__main__":
    main()
