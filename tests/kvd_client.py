#!/usr/bin/env python3
"""Compares the example `kvd` with Redis, and runs Redis's own tools with it.

    python3 tests/kvd_client.py target/release/examples/kvd            # all
    python3 tests/kvd_client.py target/release/examples/kvd durable    # one check

Each check runs with one worker and with two. KVD_WORKERS chooses other numbers: KVD_WORKERS=1,3.

The same commands go to kvd and to a redis-server 7, and the replies must be equal, byte by byte. The random commands
are those of a seed: KVD_SEED chooses another one, KVD_COMMANDS their number. Without redis-server (package
`redis-server` of Debian) the checks that need it are skipped with a message, and so are those of the client libraries
redis-py, node-redis, ioredis and go-redis and of the exporter for Prometheus, unless KVD_REQUIRE is set. Traffic stays
on the loopback interface, and every started process is ended.
"""

import contextlib
import functools
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import clients
from redis_server import redis

DEADLINE = 60
KVD = pathlib.Path(sys.argv[1]).resolve()

workers = 1

has = functools.partial(clients.has, require="KVD_REQUIRE")
missing = functools.partial(clients.missing, require="KVD_REQUIRE")


def main():
    global workers
    for workers in map(int, os.environ.get("KVD_WORKERS", "1,2").split(",")):
        for name in sys.argv[2:] or list(CHECKS):
            if CHECKS[name]():
                print(f"{name}, workers {workers}: passed", flush=True)


# ---- servers


@contextlib.contextmanager
def kvd(*options):
    command = [KVD, "--listen", "127.0.0.1:0", "--workers", str(workers), *options]
    # The signals are those of the caller: see `full_disk`.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, restore_signals=False
    )
    try:
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            process.kill()
            raise AssertionError(f"{line!r} {process.stderr.read()}")
        yield int(line.rsplit(":", 1)[1]), process
    finally:
        is_running = process.poll() is None
        if is_running:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
        assert not is_running or process.returncode == 0, process.returncode


# ---- a client that sees every byte


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.input = self.socket.makefile("rb")

    def send(self, *args):
        parts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
        request = b"*%d\r\n" % len(parts)
        self.socket.sendall(request + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))

    def receive(self):
        """One reply as nested tuples: its type and its content."""
        line = self.input.readline()
        assert line.endswith(b"\r\n"), line
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=" and rest != b"-1":
            data = self.input.read(int(rest) + 2)
            assert data.endswith(b"\r\n")
            return kind, data[:-2]
        if kind in b"*~>%" and rest != b"-1":
            count = int(rest) * (2 if kind == b"%" else 1)
            return kind, [self.receive() for _ in range(count)]
        assert kind in b"+-:$*_,#", line
        return kind, rest

    def call(self, *args):
        self.send(*args)
        return self.receive()

    def close(self):
        self.input.close()
        self.socket.close()

    def worker(self):
        return int(self.call("client", "info")[1].rsplit(b"io-thread=", 1)[1])


def on_all_workers(port, count):
    """Clients, of which every worker has some, in the order of their connecting."""
    clients = [Client(port) for _ in range(count)]
    assert len({client.worker() for client in clients}) == min(workers, count)
    return clients


# ---- the same commands for both


# Replies whose order is not defined.
UNORDERED = {"smembers", "sinter", "sunion", "sdiff", "keys", "hgetall", "hkeys", "hvals", "pubsub"}


def normal(args, reply):
    kind, content = reply
    if args[0] == "exec" and isinstance(content, list):
        content = [(of, sorted(part) if isinstance(part, list) else part) for of, part in content]
    if str(args[0]).lower() in UNORDERED and isinstance(content, list):
        if str(args[0]).lower() == "hgetall" and kind == b"*":
            content = list(zip(content[::2], content[1::2]))
        return kind, sorted(content)
    return kind, content


SCRIPT = """
client pause x|client pause -1|client pause 9223372036854775808|client pause 1 x|client pause|client pause 1 all x|client pause 1.5|client unpause x|client pause 0|client pause 0 write|client unpause|command list filterby aclcat nosuch|command list filterby module x|command list filterby x y|command list filterby|command getkeysandflags set a b|command getkeysandflags set a b get|command getkeysandflags set a get|command getkeysandflags sort a by b store c|command getkeysandflags zunionstore d 2 a b|command getkeysandflags ping x|command getkeysandflags get|command getkeysandflags get a b|command getkeysandflags nosuch a|command getkeysandflags object encoding a|command getkeysandflags sintercard 3 a b
set a 1|get a|set a 2 nx|set a 2 xx|set a 3 get|set a b c|set a b ex|set a b ex 0|set a b ex -1|set a b ex x|set a b px 100 nx xx
set k v ex 100 keepttl|set k v keepttl|set k v exat 1|get k|set l x ex 100|ttl l|persist l|ttl l|persist l|ttl nokey|pttl nokey
setnx a 1|setnx new 1|setex s 10 v|setex s 0 v|setex s -1 v|psetex s 10000 v|ttl s|getex s|getex s persist|ttl s|getex s ex 10|ttl s|getex s foo
getdel s|getdel s|getset a 9|append a bc|append newkey hello|strlen a|strlen nokey|getrange newkey 0 2|getrange newkey -3 -1|getrange newkey 3 1
getrange newkey -1 -3|getrange newkey 0 -100|getrange nokey 0 1|setrange newkey 6 world|get newkey|setrange newkey -1 x|setrange nokey2 0 |exists nokey2
incr n|incrby n 10|decr n|decrby n 3|incrbyfloat n 1.5|incrbyfloat n x|incr n|set n 9223372036854775807|incr n|decrby n -9223372036854775808|incrby n x
set n 10.50|incrbyfloat n 0.1|set n 5.0e3|incrbyfloat n 2.0e2|set n abc|incr n|incrbyfloat n 1|set n 007|incr n|set n " 1"|incr n
mset a 1 b 2|mset a 1 b|mget a b nokey|msetnx a 1 c 2|msetnx c1 1 c2 2|mget c1 c2|msetnx a 1 b
del a b nokey|exists c1 c1 c2|type c1|type nokey|unlink c1|touch c2 nokey|rename c2 c3|rename nokey x|renamenx c3 newkey|renamenx c3 c4|get c4|rename c4 c4
expire c4 100|ttl c4|expire c4 10 gt|expire c4 10 lt|ttl c4|expire c4 10 nx|expire c4 10 xx|expire c4 10 nx xx|expire c4 10 gt lt|expire c4 10 foo|expire c4 x
expire c4 9223372036854775807|expireat c4 1|exists c4|expire nokey 1|pexpire nokey 1|expire newkey -1|exists newkey|expiretime nokey|set e v|expiretime e|pexpireat e 33177117420000|pexpiretime e|expiretime e
copy e e2|copy e e2|copy e e2 replace|copy nokey e3|copy e e|copy e e2 db 99|copy e e2 db 1 replace|copy e e2 foo|move e 1|move e 99|move e 0|select 1|get e|del e e2|select 0|select 16|select x|swapdb 0 1|dbsize|swapdb 0 1|swapdb x 0|swapdb 0 99
lpush L a b c|rpush L 1 2 3|llen L|lrange L 0 -1|lrange L 1 2|lrange L -2 -1|lrange L 5 1|lrange L x 1|lindex L 0|lindex L -1|lindex L 99|lset L 0 z|lset L 99 z|lset nokey 0 z
linsert L before 1 x|linsert L after 1 y|linsert L foo 1 y|linsert L before nope y|linsert nokey before a b|lrange L 0 -1|lrem L 0 x|lrem L -1 y|lrem L 1 nope|rpush L d d d d|lrem L -2 d|lrem L 1 d|lrange L 0 -1
lpop L|rpop L|lpop L 2|rpop L 0|lpop L -1|lpop nokey|lpop nokey 2|lpop L 1 2|lpushx nokey a|rpushx L q|lpushx L p|ltrim L 0 1|lrange L 0 -1|ltrim L 5 9|exists L
rpush P a b c d 1 2 3 4 3 3 3|lpos P 3|lpos P 3 rank 2|lpos P 3 rank -1|lpos P 3 count 0|lpos P 3 count 2 rank -1|lpos P nope|lpos P nope count 1|lpos P 3 rank 0|lpos P 3 count -1|lpos P 3 maxlen -1|lpos P 3 maxlen 5|lpos P 3 foo 1|lpos P 3 rank
lmove P Q left right|lmove P Q right left|rpoplpush P Q|lrange Q 0 -1|lmove nokey Q left left|lmove P P left right|lmove P Q up left|rpoplpush nokey x|lrange P 0 -1
blpop P 0|brpop nokey P 0|blpop nokey x|blpop nokey -1|blpop nokey 0.01|brpoplpush P Q 0|blmove P Q left left 0|brpoplpush nokey Q 0.01|blmove nokey Q left left 0.01|blmove nokey Q left 0 0
hset H a 1 b 2|hset H a 3 c 4|hset H a|hset H|hget H a|hget H nope|hget nokey a|hgetall H|hkeys H|hvals H|hlen H|hexists H a|hexists H x|hdel H a x|hmset H x 1|hmset H x|hmget H x b nope|hmget nokey a|hsetnx H x 2|hsetnx H w 2
hincrby H n 5|hincrby H n x|hincrby H w 1|hset H s abc|hincrby H s 1|hincrbyfloat H s 1|hincrbyfloat H f 1.25|hincrbyfloat H f 1.25|hincrby H big 9223372036854775807|hincrby H big 1|hstrlen H s|hstrlen H nope|hrandfield nokey|zrandmember nokey|zrandmember nokey -2|zrandmember H|zrandmember Z x|zrandmember Z 1 foo|zrandmember Z 1 withscores x|zrandmember Z -9223372036854775808|zrandmember Z 4611686018427387904 withscores|hrandfield H -9223372036854775808|srandmember S -9223372036854775808|hrandfield nokey 2|hrandfield H x|hrandfield H 1 foo|hgetall nokey
sadd S a b c|sadd S a d|scard S|smembers S|sismember S a|sismember S x|smismember S a x|smismember nokey a|srem S a x|spop nokey|spop nokey 2|spop S -1|spop S 1 2|srandmember nokey|srandmember nokey 2|srandmember S x|sadd T c d e|smove S T b|smove S T nope|smove nokey T b
sinter S T|sunion S T|sdiff S T|sinterstore U S T|sunionstore U S T|sdiffstore U S T|smembers U|sintercard 2 S T|sintercard 0 S|sintercard 3 S T|sintercard 2 S T limit 1|sintercard 2 S T limit -1|sintercard 2 S T foo|sinter S nokey|sinterstore U S nokey|exists U
zadd Z 1 a 2 b 3 c|zadd Z 1 a|zadd Z nx 5 a|zadd Z xx 5 a 6 zz|zadd Z gt 4 a|zadd Z lt 4 a|zadd Z ch 9 a 9 d|zadd Z incr 1 a|zadd Z incr 1 a 2 b|zadd Z nx xx 1 a|zadd Z gt lt 1 a|zadd Z x a|zadd Z 1|zadd Z nx incr 1 a|zadd Z xx incr 1 nope|zadd nokey xx 1 a
zadd Q 1 a 2.5 b -1 e|zunion 2 Z Q|zunion 2 Z S withscores|zunion 1 Z weights 2 withscores|zunion 2 Z Q weights 1 x|zunion 2 Z Q weights 1|zunion 2 Z Q aggregate max withscores|zunion 2 Z Q aggregate avg|zunion 0 Z|zunion x Z|zunion 3 Z Q|zunion 1 str|zunion 1 str foo
zinter 2 Z Q withscores|zinter 2 Z Q weights 2 -inf aggregate min withscores|zinter 2 Z nokey|zinter 2 Z Z weights inf -inf withscores|zdiff 2 Z Q withscores|zdiff 2 Z Q weights 1 2|zdiff 1 nokey|zintercard 2 Z Q|zintercard 2 Z Q limit 1|zintercard 2 Z Q limit 0|zintercard 2 Z Q limit -1|zintercard 2 Z Q limit|zintercard 2 Z Q withscores|zunionstore R 2 Z Q weights 0 inf|zrange R 0 -1 withscores|zinterstore R 2 Z S aggregate sum|zrange R 0 -1 withscores|zdiffstore R 2 Z Q|zdiffstore R 1 nokey|exists R|zunionstore R 1 Z withscores|zunionstore R 1 Z limit 1
zunionstore R 1 Z|lmpop 2 nokey L left|lmpop 1 nokey right|lmpop 0 L left|lmpop x L left|lmpop 1 L up|lmpop 2 L left|lmpop 1 L left count 0|lmpop 1 L left count 1 count 2|lmpop 1 L left foo 1|lmpop 1 Z left|zmpop 2 nokey R min|zmpop 1 R max count 2|zmpop 1 nokey min|zmpop 1 str min|zmpop 1 R left|blmpop 0.01 1 nokey left|blmpop x 1 nokey left|blmpop -1 1 L left|bzmpop 0.01 1 nokey max|bzmpop 0 1 R max count 9|exists R|command getkeys bzmpop 0 2 a b min|command getkeys zunionstore d 2 a b|command getkeys zunion 2 a b weights 1 2|command getkeys lmpop 3 a left|command getkeys zdiffstore d x a
zscore Z a|zscore Z nope|zscore nokey a|zmscore Z a nope|zcard Z|zincrby Z 2.5 a|zincrby Z x a|zincrby Z inf i|zincrby Z -inf i|zrank Z a|zrank Z nope|zrevrank Z a|zrem Z i nope|zrange Z 0 -1|zrange Z 0 -1 withscores|zrange Z 0 0 rev|zrange Z 1 (9 byscore|zrange Z (9 1 byscore rev limit 0 1
zrange Z 0 -1 limit 0 1|zrange Z a b byscore|zrange Z a c bylex|zrange Z - + bylex withscores|zrange Z 0 -1 foo|zrangebyscore Z -inf +inf withscores limit 1 2|zrangebyscore Z 1 x|zrevrangebyscore Z +inf -inf|zrevrange Z 0 1 withscores|zrangebylex Z - +|zrevrangebylex Z + -|zcount Z -inf inf|zcount Z (1 3|zlexcount Z - +|zlexcount Z a b
zrangestore Y Z 0 -1|zrange Y 0 -1 withscores|zrangestore Y Z 5 1 byscore|exists Y|zpopmin Z|zpopmax Z 2|zpopmin Z 0|zpopmin Z -1|zpopmin nokey|zpopmax Z 99|exists Z|zadd Z 1 a 1 b 1 c 1 d|zrange Z - + bylex|zrange Z [a (c bylex|zrange Z (d [a bylex rev limit 1 1|zremrangebylex Z [a [b|zremrangebyrank Z 0 0|zremrangebyscore Z 1 1|exists Z|zadd Z 1 a|bzpopmin Z 0|bzpopmax nokey 0.01|bzpopmin nokey x
set str x|lpush str a|hset str a b|sadd str a|zadd str 1 a|lrange str 0 1|hget str a|smembers str|zrange str 0 1|sinter str S|llen str|incr S|get S|append S x|getrange S 0 1|strlen S|setrange S 0 x|mget S str|lpop S|blpop S 0|rpoplpush str S|rpoplpush P S|getset S x|setex S 10 1|type S|hdel str a|zscore str a
multi|set m 1|incr m|get m|exec|multi|multi|discard|discard|exec|multi|foo|set m 2|exec|get m|multi|set m|exec|multi|lpush m a|incr m|exec|multi|exec|watch w|multi|set w 1|exec|watch w|set w 2|multi|set w 3|exec|get w|watch w|unwatch|set w 5|multi|get w|exec|multi|watch w|exec|multi|blpop nokey 0|exec
multi|set m 1|exec x|exec|exec x|multi|discard x|exec|multi|watch|exec|multi|multi|exec|multi|watch a|exec|multi|set a|discard|multi|client reply foo|exec
multi|subscribe ch|unsubscribe ch|exec
set last 1 pxat 9223372036854775807|pexpiretime last|pexpireat last 9223372036854775499|pexpiretime last|pexpireat last 4102444800500|expiretime last
set f 0.1|incrbyfloat f 0.2|incrbyfloat f 12|hincrbyfloat hf g 0.1|hincrbyfloat hf g 0.2|zadd zopt 1 a 2 b 3 c|zrange zopt - + byscore bylex|zrange zopt - + bylex byscore|zrange zopt - + bylex bylex|zrange zopt 0 -1 rev rev|zrangestore zdst zopt - + byscore bylex|zrange zopt 0 -1 rev|zadd zero -0 a|zscore zero a|info nosuch|command getkeys object encoding a|command getkeys object nosuch a|command getkeys sort k store d|command getkeys sort k by w* get store limit 0 1 store d store e|command getkeys sort k store|command getkeys sintercard 2 a b limit 1|command getkeys sintercard 3 a b|command getkeys sintercard x a|command getkeys sintercard 0 a|command getkeys zrangestore a b 0 1|multi|watch str|discard|watch str|getex str persist persist|getex str ex 100 ex 200|getex str ex 100 px 200|getex str persist ex 1|getex str ex 1 persist|getex str ex|getex str ex 100 foo|multi|get str|exec|watch str|persist str|multi|get str|exec
zadd zf 1e400 a|zadd zf 1e-400 a|zadd zf inf a 0e5 b|hset hf f 1|hincrbyfloat hf f inf|hincrbyfloat hf f nan|set px 1 px 100000 px 200000|set px 1 ex 100 px 200|set px 1 px 1 keepttl
lindex nokey x|lindex str x|rpush li a|lindex li x|zpopmin nokey x|zpopmin nokey -1|client kill id 0|client kill id -1|client list id 0|scan -1 match nope*|scan 18446744073709551616|sscan nokey -1
config set timeout x|config set timeout -1|config set timeout 100|config get timeout|config get Timeout|config get TIMEOU?|config set timeout 0|config set save|config set save "" timeout|config set timeout 0 timeout 0|config set save ""|config set maxmemory 0|config set appendonly no|config set nosuch 1 save ""|config set save "" nosuch 1|config set databases 20|config set protected-mode x
config set client-output-buffer-limit "pubsub 32mb 8mb 60"|config set client-output-buffer-limit "foo 1 2 3"|config set client-output-buffer-limit "pubsub 1 2"|config set proto-max-bulk-len 100|config set proto-max-bulk-len x|config resetstat x
ping|ping hello|ping a b|echo hi|echo|foo|foo bar|FOO a b c|get|get a b|config|config get maxmemory|config get nothing*|config foo|config set maxmemory-nothing 1|client getname|client setname me|client getname|client setname "a b"|client foo|client kill 1.2.3.4:5|client kill id x|client unblock 99999|client reply foo|object encoding nokey|memory usage nokey samples 0|memory usage nokey samples x|memory usage nokey samples -1|memory usage nokey samples|memory usage nokey foo 1|memory usage nokey samples 1 samples 2|object foo x|object encoding n
auth x|auth a b|auth a b c|hello 4|hello x|hello 2 foo|command count foo|command getkeys get a|command getkeys mset a 1 b 2|command getkeys ping|command info nope|scan x|scan 0 count 0|scan 0 count x|scan 0 foo x|sscan nokey 0|hscan nokey 0|zscan nokey x|sscan S 0 count 1000 match nope|scan 0 match nope* count 10000
del SL SS SZ|rpush SL 3 1 2 10|sort SL|sort SL desc|sort SL alpha|sort SL limit 1 2|sort SL limit -1 2|sort SL limit x 2|sort SL foo|sort nokey|sort str|mset w_1 30 w_2 20 w_3 10 w_10 5|sort SL by w_*|sort SL by w_* get # get w_* get nope_* get nope|sort SL by nosort|sort SL by nosort desc|sort SL store SD|lrange SD 0 -1|sort nokey store SD|exists SD
hset oh_1 f c|hset oh_2 f b|hset oh_3 f a|sort SL by oh_*->f alpha|sort SL by oh_*->f alpha desc get oh_*->f|sort SL by oh_*->f|rpush SL x|sort SL|sadd SS b a c|sort SS|sort SS alpha|sort SS alpha desc limit 0 2|sort SS by nosort store SD|lrange SD 0 -1|sort SS by nosort desc limit 1 1 store SD|lrange SD 0 -1|zadd SZ 3 1 2 2 1 3|sort SZ|sort SZ by nosort|sort SZ by nosort desc|sort_ro SL alpha|sort_ro SL store x
client tracking|client tracking foo|client tracking on foo|client tracking on prefix|client tracking on prefix a|client tracking on redirect x|client tracking on redirect 99999|client tracking on redirect 0|client tracking on optin optout|client tracking on optin bcast|client tracking on bcast prefix a prefix ab|client tracking off foo|client tracking off prefix a|client trackinginfo|client getredir|client caching yes|client caching|client caching foo
client tracking on optin|client caching no|client caching foo|client caching yes|client trackinginfo|client trackinginfo|client tracking on optout|client tracking on bcast|client tracking on|client trackinginfo|ping|client trackinginfo|client tracking off|client tracking on optout|client caching yes|client caching no|client trackinginfo|multi|client trackinginfo|exec|client trackinginfo|client tracking off
client tracking on bcast|client trackinginfo|client tracking on bcast prefix a|client tracking on bcast|client tracking on|client tracking on optin|client tracking off|client tracking on bcast prefix b prefix c|client tracking on bcast prefix ba|client tracking on bcast prefix d prefix x prefix da prefix dd|client tracking on bcast prefix d noloop|client trackinginfo|client tracking on bcast|client trackinginfo|client getredir|client tracking off|client trackinginfo|client getredir
config set tracking-table-max-keys x|config set tracking-table-max-keys -1|config set tracking-table-max-keys 5|config get tracking-table-max-keys|config set tracking-table-max-keys 0|config set tracking-table-max-keys 1gb|config set tracking-table-max-keys 1000000
flushdb foo|flushdb|dbsize|keys *|set k1 1|keys k*|keys [k]?|keys x|flushall async|randomkey|publish ch msg|pubsub channels|pubsub numsub ch|pubsub numpat|pubsub foo|reset|quit
"""


def words(command):
    if '"' not in command:
        return command.split(" ")
    import shlex

    return shlex.split(command)


def script(port, version):
    """The replies to the script, with what was asked."""
    client = Client(port)
    replies = []
    if version == 3:
        assert client.call("hello", 3)[0] == b"%"
    for line in SCRIPT.strip().splitlines():
        for command in line.split("|"):
            args = words(command)
            if version == 3 and args[0] in ("hello", "reset"):
                continue
            replies.append((command, normal(args, client.call(*args))))
    client.close()
    return replies


def compare(ours, theirs):
    different = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine != other]
    for (command, mine), (_, other) in different[:20]:
        print(f"{command}\n    kvd   {mine}\n    redis {other}")
    assert not different, f"{len(different)} of {len(ours)} replies differ"


def texts():
    if not has("redis-server"):
        return False
    with kvd() as (ours, _), redis() as (theirs, _):
        for version in (2, 3):
            compare(script(ours, version), script(theirs, version))
        compare(described(ours), described(theirs))
    return True


def described(port):
    """What COMMAND INFO says of the keys of some commands and subcommands."""
    client = Client(port)
    replies = []
    for name in ("client|kill", "CONFIG|get", "client|nosuch", "nosuch|x", "get|x", "sort", "sort_ro", "sintercard", "zrangestore", "zunion", "zunionstore", "bzmpop", "lmpop"):
        kind, info = client.call("command", "info", name)
        assert kind == b"*" and len(info) == 1, info
        kind, fields = info[0]
        if kind == b"*":
            is_movable = b"movablekeys" in {flag for _, flag in fields[2][1]}
            fields = [value for _, value in (fields[:2] + fields[3:6])] + [is_movable]
        replies.append((name, fields))
    client.close()
    return replies


# Expiry is absolute here. The servers get a command at different times, and two times to live would differ whenever
# a second ends between them.
IN_2100 = 4102444800


def random_command(rng):
    key = f"{rng.choice('slhzt')}{rng.randrange(6)}"
    member = f"m{rng.randrange(300)}"
    number = rng.randrange(-5, 60)
    score = rng.randrange(-40, 40) / 4
    return rng.choice(
        [
            ("set", key, member), ("set", key, number), ("get", key), ("append", key, member), ("incrby", key, number),
            ("getrange", key, number, rng.randrange(-9, 9)), ("setrange", key, rng.randrange(40), member), ("strlen", key),
            ("del", key), ("exists", key), ("type", key), ("rename", key, f"t{rng.randrange(6)}"), ("mget", key, "s1", "l1"),
            ("lpush", key, member, number), ("rpush", key, member), ("lpop", key), ("rpop", key, 2), ("llen", key),
            ("lrange", key, number, rng.randrange(-9, 90)), ("lrem", key, rng.randrange(-2, 3), number), ("ltrim", key, 0, 200),
            ("linsert", key, "before", number, member), ("lset", key, number, member), ("lmove", key, f"l{rng.randrange(6)}", "left", "right"),
            ("lpos", key, number, "count", 0), ("blpop", key, "l9", 0.001),
            ("hset", key, member, number), ("hget", key, member), ("hdel", key, member), ("hgetall", key), ("hlen", key),
            ("hincrby", key, member, number), ("hmget", key, member, "m1"), ("hkeys", key), ("hsetnx", key, member, score),
            ("sadd", key, member, number), ("srem", key, member), ("smembers", key), ("sismember", key, member), ("scard", key),
            ("sinter", key, f"t{rng.randrange(6)}"), ("sunionstore", f"t{rng.randrange(6)}", key, "t1"), ("sdiff", key, "t2"),
            ("zadd", key, score, member), ("zadd", key, "gt", "ch", score, member), ("zincrby", key, score, member), ("zrem", key, member),
            ("zrange", key, number, rng.randrange(-9, 90), "withscores"), ("zrangebyscore", key, f"({score}", "+inf"),
            ("zrevrangebyscore", key, "inf", score, "limit", 1, 5), ("zrank", key, member), ("zrevrank", key, member), ("zscore", key, member),
            ("zcount", key, "-inf", score), ("zpopmin", key), ("zpopmax", key, 2), ("zremrangebyscore", key, score, score),
            ("expireat", key, IN_2100 + number), ("persist", key), ("expiretime", key), ("copy", key, f"t{rng.randrange(6)}"), ("object", "refcount", "nokey"),
            ("multi",), ("exec",), ("discard",), ("watch", key), ("unwatch",), ("dbsize",),
        ]
    )


def differential():
    """Random commands. The keys have any type, so about a half of the replies are errors."""
    if not has("redis-server"):
        return False
    seed = int(os.environ.get("KVD_SEED", "1"))
    count = int(os.environ.get("KVD_COMMANDS", "60000"))
    with kvd() as (ours, _), redis() as (theirs, _):
        for version in (2, 3):
            rng = random.Random(seed + version)
            clients = [Client(port) for port in (ours, theirs)]
            for client in clients:
                client.call("flushall")
                client.call("hello", version)
            for begun in range(0, count, 200):
                commands = [random_command(rng) for _ in range(200)]
                replies = []
                for client in clients:
                    # A pipeline, in pieces that end anywhere.
                    for command in commands:
                        client.send(*command)
                    replies.append([(command, normal(command, client.receive())) for command in commands])
                try:
                    compare(*replies)
                except AssertionError:
                    print(f"seed {seed}, from command {begun} on")
                    raise
            for client in clients:
                client.close()
    return True


def tools():
    """Redis's own tools, as they are."""
    if not (has("redis-cli") and has("redis-benchmark")):
        return False
    with kvd() as (port, _):
        run = lambda *args, **kwargs: subprocess.run(
            args, check=True, capture_output=True, text=True, timeout=300, **kwargs
        ).stdout
        output = run("redis-benchmark", "-p", str(port), "-n", "2000", "-c", "20", "--csv")
        assert output.count("\n") >= 20, output
        for depth in ("16", "64"):
            run("redis-benchmark", "-p", str(port), "-n", "20000", "-P", depth, "-t", "get,set,incr,lpush,mset", "-q")
        run("redis-benchmark", "-p", str(port), "-n", "2000", "-3", "-t", "get,set,zadd", "-q")
        run("redis-benchmark", "-p", str(port), "-n", "20000", "--enable-tracking", "-r", "100", "-P", "16", "-t", "get,set,mset", "-q")
        cli = ["redis-cli", "-p", str(port)]
        run(*cli, "flushall")
        requests = "".join(f"SET key:{number} {number}\r\n" for number in range(20000))
        assert "errors: 0, replies: 20000" in run(*cli, "--pipe", input=requests)
        run(*cli, "rpush", "list", *"abc")
        report = run(*cli, "--bigkeys")
        assert "Sampled 20001 keys" in report and '"list"' in report, report
        assert len(run(*cli, "--scan", "--pattern", "key:1999*").split()) == 11
        assert run(*cli, "-3", "hello").startswith("server redis")
        assert "db0:keys=20001" in run(*cli, "info", "keyspace")
        # The least, the greatest and the mean time of a PING in ms, and how many were sent within a second.
        *times, number = run(*cli, "--raw", "--latency", "-i", "1").split()
        assert len(times) == 3 and all(float(time) >= 0 for time in times) and int(number) > 10, (times, number)
        # This goes on until it is ended. After the head, the first line has no difference to the one before.
        stat = subprocess.Popen(["stdbuf", "-oL", *cli, "--stat", "-i", "0.1"], stdout=subprocess.PIPE, text=True)
        lines = [stat.stdout.readline() for _ in range(4)]
        stat.terminate()
        stat.wait()
        keys, memory, clients, _, requests, *_, connections = lines[3].split()
        assert lines[1].split() == "keys mem clients blocked requests connections".split(), lines
        assert keys == "20001" and memory.endswith("M") and int(clients) == 1 and int(connections) > 40, lines
        assert int(requests) > 60_000, lines
    return True


def helps():
    """HELP, to which errors refer, lists the subcommands that exist."""
    with kvd() as (port, _):
        client = Client(port)
        for name in ("client", "command", "config", "memory", "object", "pubsub"):
            kind, lines = client.call(name, "help")
            assert kind == b"*" and lines[-2:] == [(b"+", b"HELP"), (b"+", b"    Prints this help.")], (name, lines)
            assert lines[0][1].startswith(name.upper().encode() + b" <subcommand>") and len(lines) > 3, lines
        client.close()
    return True


def docs():
    """COMMAND DOCS says of each command what Redis says of its group, version, complexity and arguments, but for what
    belongs to absent features. kvd has no doc_flags, deprecated_since, replaced_by and history."""
    if not has("redis-server"):
        return False
    with kvd() as (ours, _), redis() as (theirs, _):
        described, wanted = (documented(port) for port in (ours, theirs))
        names, all_names = (listed(port) for port in (ours, theirs))
    assert names - all_names == {b"client|setinfo", b"client|no-touch"} and b"config|get" in names, names - all_names
    differences = {name for name, it in described.items() if name not in wanted or it != wanted[name]}
    # Redis 7.2 has these.
    assert differences == {"client|setinfo", "client|no-touch"}, differences
    return True


def categories():
    """The categories of each command are those of Redis, and COMMAND LIST finds the commands of each."""
    if not has("redis-server"):
        return False
    with kvd() as (ours, _), redis() as (theirs, _):
        names = listed(ours) & listed(theirs)
        ours, theirs = Client(ours), Client(theirs)
        for name in sorted(names):
            found = [{it for _, it in client.call("command", "info", name)[1][0][1][6][1]} for client in (ours, theirs)]
            assert found[0] == found[1], (name, found)
        for _, category in theirs.call("acl", "cat")[1]:
            request = "command", "list", "filterby", "aclcat", category
            found = [{it for _, it in client.call(*request)[1]} & names for client in (ours, theirs)]
            assert found[0] == found[1], (category, found[0] ^ found[1])
        ours.close()
        theirs.close()
    return True


def counted():
    """What Redis counts of commands and errors, kvd counts, too."""
    if not has("redis-server"):
        return False
    requests = (
        "set k a|get k|get k|incr k|lpush k 1|get|nosuch|multi|get k|incr k|exec|multi|get|exec|client id|client nosuch|exec|"
        "auth x|config set nosuch 1|client unblock 1|command getkeys ping x|sinter k k|set k a ex 0|subscribe c|get k|unsubscribe c"
    )
    with kvd() as (ours, _), redis() as (theirs, _):
        found, wanted = (dict(counts(port, requests)) for port in (ours, theirs))
    assert found == wanted, (found, wanted)
    return True


def counts(port, requests):
    client = Client(port)
    client.call("config", "resetstat")
    for request in requests.split("|"):
        client.call(*request.split(" "))
    # INFO stats waits for the figures of all workers, and then it counts itself.
    text = client.call("info", "commandstats", "errorstats")[1] + client.call("info", "stats")[1]
    client.close()
    text = text.decode()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    kept = ("calls", "failed_calls")
    for name, value in fields.items():
        if name.startswith("cmdstat_"):
            fields[name] = [it for it in value.split(",") if it.split("=")[0] in kept]
    shown = "cmdstat_", "errorstat_", "total_error_replies"
    return sorted((name, value) for name, value in fields.items() if name.startswith(shown))


def listed(port):
    client = Client(port)
    _, names = client.call("command", "list")
    client.close()
    return {name for _, name in names}


def documented(port):
    """The group, the version, the complexity and the arguments of all commands and subcommands."""
    client = Client(port)
    everything = client.call("command", "docs")
    client.close()
    found = {}

    def add(reply):
        for name, fields in pairs(reply).items():
            fields = pairs(fields)
            if "subcommands" in fields:
                add(fields["subcommands"])
            shown = "since", "group", "complexity", "arguments"
            found[name] = {field: simplified(fields[field]) for field in shown if field in fields}

    add(everything)
    return found


def pairs(reply):
    items = reply[1]
    return {name.decode(): value for (_, name), value in zip(items[::2], items[1::2])}


def simplified(reply):
    kind, content = reply
    if kind != b"*":
        return content
    if content and content[0] == (b"$", b"name"):
        skipped = "since", "deprecated_since", "key_spec_index"
        return {name: simplified(value) for name, value in pairs(reply).items() if name not in skipped}
    return [simplified(it) for it in content]


def peak_memory(process):
    """The most memory that the process has had so far, in kB."""
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def big():
    """A value of 512 MB in and out, and one that is too large."""
    with kvd() as (port, process):
        client = Client(port)
        size = 512 << 20
        piece = bytes(range(256)) * 4096
        client.socket.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % size)
        for _ in range(size // len(piece)):
            client.socket.sendall(piece)
        client.socket.sendall(b"\r\n")
        assert client.receive() == (b"+", b"OK")
        assert client.call("strlen", "big") == (b":", str(size).encode())
        client.send("get", "big")
        assert client.input.readline() == b"$%d\r\n" % size
        for _ in range(size // len(piece)):
            assert client.input.read(len(piece)) == piece
        assert client.input.readline() == b"\r\n"
        peak = peak_memory(process)
        # The value once, and the buffers of the two sockets.
        assert peak < 600 << 10, f"{peak} kB"
        client.socket.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % (size + 1))
        assert client.receive() == (b"-", b"ERR Protocol error: invalid bulk length")
        client.close()
    return True


def large_elements():
    """Replies with large elements take no memory for them."""
    with kvd() as (port, process):
        client = Client(port)
        number, size = 200, 1 << 20
        text = b"x" * size
        for key, insert, requests in (
            ("list", lambda at: ("rpush", "list", text), [("sort", "list", "alpha"), ("lrange", "list", 0, -1), ("lpop", "list", number)]),
            ("set", lambda at: ("sadd", "set", text + b"%d" % at), [("sort", "set", "by", "nosort"), ("spop", "set", number)]),
            ("zset", lambda at: ("zadd", "zset", at, text + b"%d" % at), [("zrange", "zset", 0, -1), ("zpopmin", "zset", number)]),
        ):
            for at in range(number):
                assert client.call(*insert(at))[0] == b":"
            before = peak_memory(process)
            for request in requests:
                kind, elements = client.call(*request)
                assert sum(len(element) >= size for _, element in elements) == number, request
            assert client.call("exists", key) == (b":", b"0")
            more = peak_memory(process) - before
            assert more < 100 << 10, f"{key}: {more} kB"
        client.close()
    return True


def security():
    """POST and Host: end the connection, and a password is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "password")
        path.write_text("secret\nnot this\n")
        guarded("--requirepass-file", path)
        path.write_bytes(b"secret\xff\r\n")
        with kvd("--requirepass-file", path) as (port, _):
            client = Client(port)
            assert client.call("auth", "secret")[1].startswith(b"WRONGPASS")
            assert client.call("auth", b"secret\xff") == (b"+", b"OK")
            client.close()
        path.write_text("\n")
        started = subprocess.run([KVD, "--requirepass-file", path], capture_output=True, text=True, timeout=DEADLINE)
        assert started.returncode == 1 and "its first line is empty" in started.stderr, started
    guarded("--requirepass", "secret")
    return True


def command_line():
    """A wrong value of an option is an error of the command line, and options are parameters."""
    for name, value in [("maxmemory-clients", "5%"), ("maxmemory-clients", "10xb"), ("client-query-buffer-limit", "1k")]:
        ran = subprocess.run([KVD, f"--{name}", value], capture_output=True, text=True, timeout=DEADLINE)
        assert ran.returncode == 2 and f"'--{name}'" in ran.stderr and "CONFIG" not in ran.stderr, ran
    with kvd("--timeout", "77", "--client-output-buffer-limit", "normal 1k 0 0") as (port, _):
        client = Client(port)
        assert (b"$", b"77") in client.call("config", "get", "timeout")[1]
        limits = b"normal 1000 0 0 slave 0 0 0 pubsub 33554432 0 0"
        assert (b"$", limits) in client.call("config", "get", "client-output-buffer-limit")[1]
        client.close()
    return True


def keepalive():
    """The system asks after 300 seconds of silence whether a client is still there."""
    table = pathlib.Path("/proc/net/tcp")
    if not table.exists():
        print("keepalive: skipped, this system has no /proc/net/tcp")
        return False
    with kvd() as (port, _):
        client = Client(port)
        ports = [f"0100007F:{number:04X}" for number in (port, client.socket.getsockname()[1])]
        deadline = time.monotonic() + DEADLINE
        timer = "00"
        # Before its reply is acknowledged, the connection has another timer.
        while timer != "02":
            assert time.monotonic() < deadline, timer
            assert client.call("ping") == (b"+", b"PONG")
            rows = [row.split() for row in table.read_text().splitlines()]
            timer, ticks = next(row[5].split(":") for row in rows if row[1:3] == ports)
        ticks = int(ticks, 16) / os.sysconf("SC_CLK_TCK")
        assert 240 < ticks <= 301, ticks
        client.close()
    return True


def guarded(*options):
    with kvd(*options) as (port, _):
        for request in (b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nSET a 1\r\n"):
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as browser:
                browser.sendall(request)
                received = b""
                while chunk := browser.recv(1000):
                    received += chunk
                assert b"OK" not in received, received
        client = Client(port)
        assert client.call("get", "a") == (b"-", b"NOAUTH Authentication required.")
        assert client.call("auth", "wrong")[1].startswith(b"WRONGPASS")
        assert client.call("hello", 3, "auth", "default", "secret")[0] == b"%"
        assert client.call("get", "a") == (b"_", b"")
        client.close()


def blocking():
    """Clients that wait are served in order, and one that has left takes nothing with it."""
    with kvd() as (port, _):
        *clients, pusher = on_all_workers(port, 5)
        for number, client in enumerate(clients):
            client.send("blpop", "list", "other", 0)
            waiting = lambda: int(dict(
                line.split(b":") for line in pusher.call("info", "clients")[1].split(b"\r\n") if b":" in line
            )[b"blocked_clients"])
            until = time.monotonic() + DEADLINE
            while waiting() != number + 1:
                assert time.monotonic() < until
        clients.pop(0).close()
        while waiting() != 3:
            assert time.monotonic() < until
        pusher.call("rpush", "list", "a", "b")
        assert clients[0].receive() == (b"*", [(b"$", b"list"), (b"$", b"a")])
        assert clients[1].receive() == (b"*", [(b"$", b"list"), (b"$", b"b")])
        clients[0].send("ping")
        assert clients[0].receive() == (b"+", b"PONG")
        pusher.call("multi")
        pusher.call("lpush", "other", "x")
        pusher.call("lpush", "other", "y")
        pusher.call("exec")
        assert clients[2].receive() == (b"*", [(b"$", b"other"), (b"$", b"y")])
        clients[2].send("blmove", "src", "dst", "left", "right", 0)
        clients[0].send("blpop", "dst", 0)
        while waiting() != 2:
            assert time.monotonic() < until
        pusher.call("rpush", "src", "chained")
        assert clients[2].receive() == (b"$", b"chained")
        assert clients[0].receive() == (b"*", [(b"$", b"dst"), (b"$", b"chained")])
        # CLIENT UNBLOCK and CLIENT KILL reach a client of any worker, and it takes no element any more.
        for client in clients:
            number = client.call("client", "id")[1]
            client.send("blpop", "never", 0)
            while waiting() != 1:
                assert time.monotonic() < until
            assert pusher.call("client", "unblock", number, "error") == (b":", b"1")
            assert client.receive()[1].startswith(b"UNBLOCKED")
            assert client.call("ping") == (b"+", b"PONG")
            client.send("blpop", "never", 0)
            while waiting() != 1:
                assert time.monotonic() < until
            assert pusher.call("client", "kill", "id", number) == (b":", b"1")
            assert pusher.call("rpush", "never", "x") == (b":", b"1")
            assert pusher.call("lpop", "never") == (b"$", b"x")
            assert client.input.read() == b""
        for client in [*clients, pusher]:
            client.close()
    return True


def paused():
    """CLIENT PAUSE: the same as in Redis for clients of all workers."""
    if not has("redis-server"):
        return False
    with kvd() as (ours, process), redis() as (theirs, _):
        compare(*(paused_replies(port) for port in (ours, theirs)))
        # The end of the server does not wait for that of a pause.
        clients = on_all_workers(ours, 2)
        assert clients[0].call("client", "pause", 1_000_000) == (b"+", b"OK")
        for client in clients:
            client.send("incr", "n")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=DEADLINE)
        assert process.returncode == 0, process.returncode
        for client in clients:
            client.close()
    return True


def paused_replies(port):
    replies = []
    other, *clients = [Client(port) for _ in range(6)]
    until = time.monotonic() + DEADLINE

    def wait_for(count):
        while b"blocked_clients:%d\r" % count not in other.call("info", "clients")[1]:
            assert time.monotonic() < until

    def note(what, reply):
        replies.append((what, reply))

    clients[0].call("multi")
    clients[0].call("append", "k", "0")
    note("pause", other.call("client", "pause", 1_000_000, "write"))
    for number, client in enumerate(clients):
        client.send(*("exec",) if number == 0 else ("append", "k", number))
        client.send("ping", number)
        wait_for(number + 1)
    note("get", other.call("get", "k"))
    note("unpause", other.call("client", "unpause"))
    lengths = []
    for client in clients:
        kind, length = client.receive()
        lengths.append(length[0][1] if kind == b"*" else length)
        note("ping", client.receive())
    # Clients of one worker are served in the order of their requests.
    note("append", sorted(lengths) if workers > 1 else lengths)
    note("all", other.call("client", "pause", 50))
    for client in clients:
        note("get", client.call("strlen", "k"))
    for client in [other, *clients]:
        client.close()
    return replies


def messages():
    """Publish and subscribe, with both versions of the protocol."""
    with kvd() as (port, _):
        two, three, publisher = on_all_workers(port, 3)
        three.call("hello", 3)
        assert two.call("subscribe", "news") == (b"*", [(b"$", b"subscribe"), (b"$", b"news"), (b":", b"1")])
        assert three.call("psubscribe", "n*")[0] == b">"
        assert publisher.call("publish", "news", "hello") == (b":", b"2")
        assert two.receive() == (b"*", [(b"$", b"message"), (b"$", b"news"), (b"$", b"hello")])
        pattern = [(b"$", b"pmessage"), (b"$", b"n*"), (b"$", b"news"), (b"$", b"hello")]
        assert three.receive() == (b">", pattern)
        assert two.call("get", "a")[1].startswith(b"ERR Can't execute 'get'")
        assert three.call("get", "a") == (b"_", b"")
        three.send("publish", "nobody", "x")
        assert three.receive()[0] == b">"
        assert three.receive() == (b":", b"1")
        assert two.call("unsubscribe") == (b"*", [(b"$", b"unsubscribe"), (b"$", b"news"), (b":", b"0")])
        assert two.call("get", "a") == (b"$", b"-1")
        for client in (two, three, publisher):
            client.close()
    return True


def same_order():
    """All subscribers get all messages in the same order, whoever publishes them and wherever."""
    with kvd() as (port, _):
        clients = on_all_workers(port, 8)
        subscribers, publishers = clients[:4], clients[4:]
        for subscriber in subscribers:
            subscriber.call("subscribe", "news")
        count = 500
        for publisher in publishers:
            requests = b"".join(b"publish news %d:%d\r\n" % (id(publisher), number) for number in range(count))
            publisher.socket.sendall(requests)
        for publisher in publishers:
            assert all(publisher.receive() == (b":", b"4") for _ in range(count))
        orders = [[it.receive()[1][2][1] for _ in range(count * len(publishers))] for it in subscribers]
        assert all(order == orders[0] for order in orders)
        for publisher in publishers:
            own = [text for text in orders[0] if text.startswith(b"%d:" % id(publisher))]
            assert own == [b"%d:%d" % (id(publisher), number) for number in range(count)]
        for client in clients:
            client.close()
    return True


def atomic():
    """Transactions of clients on all workers: each is executed as a whole, and WATCH notices every change."""
    with kvd() as (port, _):
        clients = on_all_workers(port, 6)
        count = 1000
        for client in clients:
            client.socket.sendall(b"multi\r\nincr a\r\nincr b\r\nget a\r\nexec\r\n" * count)
        for client in clients:
            last = 0
            for _ in range(count):
                for _ in range(4):
                    client.receive()
                kind, (a, b, again) = client.receive()
                assert kind == b"*" and a == b and a[1] == again[1] and int(a[1]) > last, (a, b, again)
                last = int(a[1])
        assert clients[0].call("get", "a") == (b"$", b"%d" % (count * len(clients)))
        # Each of them adds one, until it has succeeded so often.
        left = {client: 50 for client in clients}
        clients[0].call("set", "n", 0)
        while any(left.values()):
            trying = [client for client, times in left.items() if times]
            for client in trying:
                client.send("watch", "n")
                client.send("get", "n")
            for client in trying:
                client.receive()
                value = int(client.receive()[1])
                client.send("multi")
                client.send("set", "n", value + 1)
                client.send("exec")
            for client in trying:
                client.receive()
                client.receive()
                left[client] -= client.receive() == (b"*", [(b"+", b"OK")])
        assert clients[0].call("get", "n") == (b"$", b"%d" % (50 * len(clients)))
        for client in clients:
            client.close()
    return True


def one_server():
    """What a client sees and sets is that of all workers."""
    with kvd("--maxclients", "6") as (port, _):
        clients = on_all_workers(port, 6)
        field = lambda name: int(dict(
            line.split(b":") for line in clients[0].call("info")[1].split(b"\r\n") if b":" in line
        )[name])
        until = time.monotonic() + DEADLINE
        refused = Client(port)
        assert refused.receive() == (b"-", b"ERR max number of clients reached")
        while field(b"rejected_connections") != 1:
            assert time.monotonic() < until
        assert field(b"connected_clients") == field(b"total_connections_received") == 6
        names = sorted((client.call("client", "id")[1] for client in clients), key=int)
        listed = clients[-1].call("client", "list")[1].splitlines()
        assert [line.split(b" ")[0] for line in listed] == [b"id=" + name for name in names]
        # A key expires for all, and by itself.
        clients[0].call("set", "k", 1, "px", 30)
        while clients[1].call("get", "k") != (b"$", b"-1"):
            assert time.monotonic() < until
        clients[1].call("set", "l", 1, "px", 30)
        while field(b"expired_keys") != 2:
            assert time.monotonic() < until
        assert clients[0].call("config", "set", "requirepass", "secret", "timeout", "1") == (b"+", b"OK")
        for client in clients[1:]:
            assert client.call("config", "get", "timeout") == (b"*", [(b"$", b"timeout"), (b"$", b"1")])
            client.call("reset")
            assert client.call("get", "k") == (b"-", b"NOAUTH Authentication required.")
        # The timeout holds for connections that were there before.
        for client in clients:
            assert client.input.read() == b""
        for client in [*clients, refused]:
            client.close()
    return True


def durable():
    """kill -9 in the middle of writes: nothing that was acknowledged or shown is lost."""
    for policy in ("always", "everysec", "no"):
        killed(policy)
    return True


def killed(policy):
    with tempfile.TemporaryDirectory() as folder:
        acknowledged = [0] * 8
        lists = shown = 0
        for round in range(4):
            with kvd("--dir", folder, "--appendfsync", policy) as (port, process):
                clients = on_all_workers(port, len(acknowledged))
                for number, client in enumerate(clients):
                    stored = client.call("get", f"counter:{number}")[1]
                    assert int(stored) >= acknowledged[number] or stored == b"-1", (stored, acknowledged)
                assert int(clients[0].call("llen", "list")[1]) >= lists
                reader = Client(port)
                assert int(reader.call("get", "counter:0")[1]) >= shown or not round
                # Before the database is written for the first time, and after.
                until = time.monotonic() + (0.3, 2.3, 0.1, 1.1)[round]
                while time.monotonic() < until:
                    for number, client in enumerate(clients):
                        client.send("incr", f"counter:{number}")
                        client.send("rpush", "list", number)
                    reader.send("get", "counter:0")
                    for number, client in enumerate(clients):
                        acknowledged[number] = int(client.receive()[1])
                        lists = max(lists, int(client.receive()[1]))
                    shown = max(shown, int(reader.receive()[1]))
                for number, client in enumerate(clients):
                    client.send("incr", f"counter:{number}")
                process.kill()
                process.wait()
                for client in [*clients, reader]:
                    client.close()
        with kvd("--dir", folder) as (port, _):
            client = Client(port)
            stored = [int(client.call("get", f"counter:{number}")[1]) for number in range(8)]
            assert all(has >= acked for has, acked in zip(stored, acknowledged)), (stored, acknowledged)
            assert min(acknowledged) > 3
            client.close()


def removed():
    """kill -9 while large values are renamed, removed, changed and made again: they are as they were acknowledged."""
    for policy in ("always", "everysec", "no"):
        rng = random.Random(os.environ.get("KVD_SEED", "1") + policy)
        keys = ["a", "b", "c", "k" * 100_000]
        before = after = {}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(5):
                with kvd("--dir", folder, "--appendfsync", policy) as (port, process):
                    client = Client(port)
                    stored = {key: stored_value(client, key) for key in keys}
                    # The last command was not acknowledged.
                    wanted = [{key: it.get(key) for key in keys} for it in (before, after)]
                    assert stored in wanted, {key[:9]: str(value)[:99] for key, value in stored.items()}
                    before = after = {key: value for key, value in stored.items() if value is not None}
                    # Some rounds end before the database is written for the first time, and some in the middle of that.
                    until = time.monotonic() + rng.choice([0.2, 1.2, 2.5])
                    while True:
                        command, after = large_change(rng, keys, before)
                        client.send(*command)
                        if time.monotonic() > until:
                            break
                        reply = client.receive()
                        assert reply[0] != b"-", reply
                        before = after
                    process.kill()
                    process.wait()
                    client.close()
    return True


def large_change(rng, keys, values):
    """A command, and the values of all keys after it: strings, and sets of their members."""
    key, other = rng.sample(keys, 2)
    value = values.get(key)
    choice = rng.randrange(9)
    if choice == 0 and value is not None:
        return ("rename", key, other), {**{it: values[it] for it in values if it != key}, other: value}
    if choice == 1:
        return ("flushdb",), {}
    if choice in (2, 3) and value is not None:
        return ("del", key), {it: values[it] for it in values if it != key}
    if choice == 4 and isinstance(value, bytes):
        # Few parts, which are copied, or many, which are shared.
        added = b"y" * rng.choice([40_000, 40_000, 9_000_000])
        return ("append", key, added), {**values, key: value + added}
    if choice == 5 and isinstance(value, bytes):
        at = rng.randrange(len(value))
        return ("setrange", key, at, "zz"), {**values, key: value[:at] + b"zz" + value[at + 2 :]}
    if choice in (6, 7) and not isinstance(value, bytes):
        # Rows of more than one transaction, and one that is large.
        new = {b"%d" % rng.randrange(10**9) for _ in range(rng.choice([5, 12_000]))}
        new.add(b"m" * rng.choice([1, 2000, 200_000]))
        return ("sadd", key, *new), {**values, key: (value or set()) | new}
    text = bytes([rng.randrange(97, 123)]) * rng.choice([1, 65_000, 130_000, 1_000_000])
    return ("set", key, text), {**values, key: text}


def stored_value(client, key):
    match client.call("type", key)[1]:
        case b"none":
            return None
        case b"string":
            return client.call("get", key)[1]
        case _:
            return {text for _, text in client.call("smembers", key)[1]}


def full_disk():
    """While the disk is full, commands that write get an error. What was executed is written when there is room."""
    for policy in ("always", "everysec", "no"):
        full_under(policy)
        popped_under(policy)
    return True


def full_under(policy):
    import resource

    with tempfile.TemporaryDirectory() as folder:
        # A write over the limit of the size of files fails, as on a full disk. The signal must not end the server.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        with kvd("--dir", folder, "--appendfsync", policy) as (port, process):
            client, waiter = Client(port), Client(port)
            assert client.call("set", "before", "kept") == (b"+", b"OK")
            waiter.send("blpop", "nothing", 0)
            # The log has room for two of them.
            size = 250_000
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            writers = []
            is_full = lambda: b"aof_last_write_status:err" in client.call("info", "persistence")[1]
            while not is_full():
                writers.append(Client(port))
                writers[-1].send("set", f"key:{len(writers) - 1}", "x" * 100_000)
                assert len(writers) < 1000
            # Nobody waits for room, and nobody has lost a change that was acknowledged or executed.
            lengths = []
            for number, writer in enumerate(writers):
                kind, text = writer.receive()
                is_executed = kind == b"+" or b"The command was executed: its change is in memory" in text
                assert kind == b"+" or text.startswith(b"MISCONF"), text
                lengths.append(b"100000" if is_executed else b"0")
                assert client.call("strlen", f"key:{number}") == (b":", lengths[-1]), (kind, text)
            assert b"100000" in lengths
            refused = client.call("incr", "n")[1]
            assert refused.startswith(b"MISCONF Errors writing to the AOF file: "), refused
            assert client.call("get", "before") == (b"$", b"kept")
            # A transaction that ends another client's wait is refused as well, and nothing of it is lost or kept.
            assert client.call("multi") == (b"+", b"OK")
            assert client.call("set", "lost", 1)[1].startswith(b"MISCONF")
            assert client.call("exec")[1].startswith(b"EXECABORT")
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            until = time.monotonic() + DEADLINE
            while is_full():
                assert time.monotonic() < until
                time.sleep(0.1)
            assert client.call("incr", "n") == (b":", b"1")
            process.kill()
            process.wait()
            for it in [client, waiter, *writers]:
                it.close()
        with kvd("--dir", folder) as (port, _):
            client = Client(port)
            assert client.call("get", "before") == (b"$", b"kept")
            assert client.call("get", "n") == (b"$", b"1")
            for number, length in enumerate(lengths):
                assert client.call("strlen", f"key:{number}") == (b":", length), number
            client.close()
        # Changes that are not on disk when the server ends are no success.
        with kvd("--dir", folder, "--appendfsync", policy) as (port, process):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            client = Client(port)
            kind, text = client.call("set", "last", "x" * 100_000)
            assert kind == b"-" and text.startswith(b"MISCONF"), text
            client.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=DEADLINE) == 1


def popped_under(policy):
    """Each element is in its list after a restart, or a client has received it, once."""
    import resource

    elements = [b"%d" % number for number in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        options = ("--dir", folder, "--appendfsync", policy)
        with kvd(*options) as (port, _):
            client = Client(port)
            client.call("rpush", "list", *elements[:10])
            client.call("sadd", "set", *elements[10:19])
            client.close()
        with kvd(*options) as (port, process):
            # All is in the database. The log cannot get a byte.
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            poppers = [Client(port) for _ in range(4)]
            waiter, pusher, observer = Client(port), Client(port), Client(port)
            waiter.send("blpop", "work", 0)
            while b"blocked_clients:1" not in observer.call("info", "clients")[1]:
                pass
            poppers[0].send("lpop", "list")
            poppers[1].send("spop", "set", 2)
            poppers[2].send("lmpop", 1, "list", "left")
            for command in (("multi",), ("lpop", "list"), ("exec",)):
                poppers[3].send(*command)
            pusher.send("rpush", "work", elements[19])
            until = time.monotonic() + DEADLINE
            while b"aof_last_write_status:err" not in observer.call("info", "persistence")[1]:
                assert time.monotonic() < until
            assert observer.call("lpop", "list")[1].startswith(b"MISCONF")
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            while observer.call("set", "after", 1)[0] == b"-":
                assert time.monotonic() < until
                time.sleep(0.1)
            replies = [it.receive() for it in [*poppers, poppers[3], poppers[3], pusher]]
            is_pushed = replies[-1][0] == b":" or b"The command was executed" in replies[-1][1]
            if is_pushed:
                replies.append(waiter.receive())
            for it in [*poppers, waiter, pusher, observer]:
                it.close()
            process.kill()
            process.wait()
        with kvd(*options) as (port, _):
            client = Client(port)
            left = [it for _, it in client.call("lrange", "list", 0, -1)[1] + client.call("lrange", "work", 0, -1)[1]]
            left += [it for _, it in client.call("smembers", "set")[1]]
            client.close()
    taken = [it for reply in replies for it in strings(reply) if it in elements]
    assert sorted(left + taken) == sorted(elements if is_pushed else elements[:19]), (policy, left, replies)
    assert taken, replies


def strings(reply):
    kind, content = reply
    if kind == b"*":
        return [it for part in content if isinstance(part, tuple) for it in strings(part)]
    return [content] if kind == b"$" else []


def damaged_folder():
    """A server does not start with a damaged or incomplete folder. It names the file."""

    def failure(folder, *options):
        command = [KVD, "--listen", "127.0.0.1:0", "--dir", folder, *options]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
        assert ran.returncode == 1 and not ran.stdout, ran
        # redb may have panicked before.
        return ran.stderr.splitlines()[-1]

    with tempfile.TemporaryDirectory() as root:
        source, folder = pathlib.Path(root, "source"), pathlib.Path(root, "copy")
        with kvd("--dir", source) as (port, process):
            client = Client(port)
            for number in range(2000):
                client.send("set", f"key:{number}", f"content:{number}")
            assert [client.receive() for _ in range(2000)] == [(b"+", b"OK")] * 2000
            client.close()

        def damage(name, change):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(source, folder)
            path = folder / name
            data = change(path.read_bytes())
            path.unlink() if data is None else path.write_bytes(data)

        for name in ("kvd.redb", "kvd.log.1", "kvd.log.2"):
            damage(name, lambda data: None)
            assert f"copy/{name}: the file is missing" in failure(folder)
        for size in (0, 100, 4096, 100_000):
            damage("kvd.redb", lambda data: data[:size])
            assert failure(folder).startswith(f"kvd: --dir {folder}: {folder}/kvd.redb: "), size
        damage("kvd.redb", lambda data: data.replace(b"content:1234", b"content:4321"))
        assert failure(folder).startswith(f"kvd: --dir {folder}: {folder}/kvd.redb: ")
        damage("kvd.redb", lambda data: data)
        ran = subprocess.run([KVD, "--dir", folder, "--check"], capture_output=True, text=True, timeout=DEADLINE)
        assert (ran.returncode, ran.stdout) == (0, "2000 keys, no damage\n"), ran
    return True


def python_library():
    """What the README of redis-py does, with hiredis if it is installed."""
    try:
        import redis as library
    except ImportError:
        return missing("redis-py")
    with kvd() as (port, _):
        for protocol in (2, 3):
            client = library.Redis(port=port, decode_responses=True, protocol=protocol)
            client.flushall()
            assert client.set("foo", "bar") and client.get("foo") == "bar"
            pipeline = client.pipeline().set("foo", 5).set("bar", 18.5).set("blee", "hello world!")
            assert pipeline.execute() == [True] * 3
            with client.pipeline() as transaction:
                transaction.watch("foo")
                value = int(transaction.get("foo"))
                transaction.multi()
                transaction.set("foo", value + 1)
                assert transaction.execute() == [True]
            subscriber = client.pubsub()
            subscriber.subscribe("channel")
            subscriber.psubscribe("ch*")
            kinds = [subscriber.get_message(timeout=DEADLINE)["type"] for _ in range(2)]
            assert client.publish("channel", "hello") == 2
            kinds += [subscriber.get_message(timeout=DEADLINE)["type"] for _ in range(2)]
            assert kinds == ["subscribe", "psubscribe", "message", "pmessage"], kinds
            subscriber.close()
            client.hset("h", mapping={"a": 1, "b": 2})
            assert client.hgetall("h") == {"a": "1", "b": "2"}
            client.zadd("z", {"a": 1, "b": 2.5})
            assert [tuple(it) for it in client.zrange("z", 0, -1, withscores=True)] == [("a", 1.0), ("b", 2.5)]
            assert sorted(client.scan_iter(count=2)) == ["bar", "blee", "foo", "h", "z"]
            assert client.info()["connected_clients"] >= 1 and client.config_get("maxcl*") == {"maxclients": "10000"}
            assert client.client_list()[0]["cmd"] and "get" in client.command()
            assert client.blpop("nothing", timeout=0.05) is None
            assert client.sort("z", alpha=True, desc=True) == ["b", "a"]
            assert client.client_pause(1_000_000, all=False)
            waiting = library.Redis(port=port, socket_timeout=0.05, retry=None)
            try:
                waiting.set("paused", 1)
                raise AssertionError("it was not paused")
            except library.TimeoutError:
                waiting.close()
            assert client.get("paused") is None and client.client_unpause() and client.client_pause(1)
            assert client.set("paused", 1) and client.delete("paused")
            counted = client.info("commandstats")["cmdstat_client|pause"]
            assert counted == {"calls": 2 * (protocol - 1), "failed_calls": 0}, counted
            assert client.command_getkeysandflags("GETSET", "a", "b") == [["a", ["RW", "access", "update"]]]
            assert "get" in client.command_list(category="read") and client.client_no_touch("on")
            client.close()
        python_cache(library, port)
    return True


def python_cache(library, port):
    """A client that keeps the values of keys until the server says that they have changed."""
    from redis.cache import CacheConfig
    from redis.connection import CacheProxyConnection

    # It refuses servers below 7.4, also those of Redis, which have all that it needs since 6.0.
    CacheProxyConnection.MIN_ALLOWED_VERSION = "7.0.0"
    cached = library.Redis(port=port, decode_responses=True, protocol=3, cache_config=CacheConfig())
    other = library.Redis(port=port, decode_responses=True)
    values = lambda: [cached.get("key"), cached.hget("hash", "field")]
    looked_up = lambda: other.info("stats")["keyspace_hits"] + other.info("stats")["keyspace_misses"]
    until = time.monotonic() + DEADLINE
    for number in range(20):
        other.mset({"key": number})
        other.hset("hash", "field", number)
        while values() != [str(number)] * 2:
            assert time.monotonic() < until
        before = looked_up()
        assert values() == [str(number)] * 2 and looked_up() == before, "they were read from the server"
        # It has the invalidation when it has the reply.
        cached.set("key", "own")
        assert cached.get("key") == "own"
    other.flushall()
    while values() != [None, None]:
        assert time.monotonic() < until
    cached.close()
    other.close()


def node_libraries():
    """What the READMEs of node-redis and ioredis do."""
    if not has("node"):
        return False
    with kvd() as (port, _):
        test = pathlib.Path(__file__).with_name("kvd_client.mjs")
        ran = subprocess.run(["node", test, str(port)], capture_output=True, text=True, timeout=DEADLINE)
    if "Cannot find module" in ran.stderr:
        return missing("node-redis or ioredis")
    assert ran.returncode == 0, ran.stderr
    return True


def go_library():
    """What the README of go-redis does."""
    if not has("go"):
        return False
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
    if not pathlib.Path(environment["GOPATH"], "src/gopkg.in/redis.v5").exists():
        return missing("golang-gopkg-redis.v5-dev")
    test = pathlib.Path(__file__).with_name("kvd_client.go")
    with kvd() as (port, _), tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder, "kvd_client")
        clients.run("go", "build", "-o", program, test, env={**environment, "GOCACHE": folder}, timeout=5 * DEADLINE)
        clients.run(program, str(port))
    return True


def exporter():
    """The exporter of Prometheus, which operators of Redis use, understands INFO and CONFIG."""
    if not has("prometheus-redis-exporter"):
        return False
    with kvd() as (port, _), socket.create_server(("127.0.0.1", 0)) as free:
        address = "127.0.0.1:%d" % free.getsockname()[1]
        free.close()
        Client(port).call("SET", "key", "value")
        process = subprocess.Popen(
            ["prometheus-redis-exporter", "-redis.addr", f"redis://127.0.0.1:{port}", "-web.listen-address", address],
            stderr=subprocess.DEVNULL,
        )
        try:
            metrics = fetched(f"http://{address}/metrics")
        finally:
            process.kill()
            process.wait()
    # Without the times of commands there is no figure that would pass for one.
    assert "redis_commands_duration_seconds_total{" not in metrics, metrics
    for line in ("redis_up 1", "redis_exporter_last_scrape_error{err=\"\"} 0", 'redis_db_keys{db="db0"} 1'):
        assert line in metrics.splitlines(), (line, metrics)
    return True


def fetched(url):
    """The content of a page of a server that may not listen yet."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return urllib.request.urlopen(url, timeout=DEADLINE).read().decode()
        except urllib.error.URLError:
            assert time.monotonic() < deadline, url


CHECKS = {
    "texts": texts,
    "differential": differential,
    "tools": tools,
    "helps": helps,
    "docs": docs,
    "categories": categories,
    "counted": counted,
    "paused": paused,
    "big": big,
    "large_elements": large_elements,
    "security": security,
    "command_line": command_line,
    "keepalive": keepalive,
    "blocking": blocking,
    "messages": messages,
    "same_order": same_order,
    "atomic": atomic,
    "one_server": one_server,
    "durable": durable,
    "removed": removed,
    "full_disk": full_disk,
    "damaged_folder": damaged_folder,
    "python_library": python_library,
    "node_libraries": node_libraries,
    "go_library": go_library,
    "exporter": exporter,
}

if __name__ == "__main__":
    main()
