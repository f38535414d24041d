"""What a client of kvd or Redis may send on a new connection: inline commands, errors of the protocol, requests that
change how replies are sent. Each case leaves no key behind that a later one reads.
"""


def encode(*args):
    parts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def requests(text):
    """The requests of a line, which has `|` between them."""
    return b"".join(encode(*request.split(" ")) for request in text.split("|"))


INLINE = [
    b"PING\r\n", b"PING\n", b"ping hello\r\n", b"\r\n\r\nPING\r\n", b"  PING  \r\n", b"\tPING\t x\r\n", b"PING\r\r\n", b"ping a\rb\r\n",
    b"set 'a b' \"c\\x41\\n\"\r\nget 'a b'\r\n", b"set a \"b\r\nPING\r\n", b"set a 'b\r\n", b"ping \"a\"b\r\n",
    b"\"\" \r\nPING\r\n", b"'' x\r\nPING\r\n", b"get \"\\xff\\x00\"\r\n", b"ping \\x41\r\n", b"ping '\\''\r\n", b"ping \"\\q\\\"\"\r\n",
    b"ping \"\\xzz\\x4\"\r\n", b"ping\x0bx\r\nping\x0cx\r\n", b"\x0bping \x0c\r\n", b"quit\r\nping\r\n",
    b"$4\r\nPING\r\n", b":1\r\n", b"+OK\r\n", b"-x\r\n", b"_\r\n", b"(1\r\n", b"x" * 70000, b"x" * 70000 + b"\r\n",
    b"ping " + b"x" * 60000 + b"\r\n", b"ping " + b"x" * 65530 + b"\r\n", b"ping " + b"x" * 70000 + b"\r\n",
    b"ping\r\npi\0ng\r\nping\r\n", b"\0\r\nping\r\n", b"ping x\0\r\n" + b"ping\r\n" * 12000, b"ping x\0" + b"y" * 70000,
]  # fmt: skip

ERRORS = [
    b"*0\r\nPING\r\n", b"*-1\r\nPING\r\n", b"*-5\r\n", b"*a\r\n", b"*\r\n", b"* 1\r\n$4\r\nPING\r\n", b"*01\r\n$4\r\nPING\r\n",
    b"*+1\r\n$4\r\nPING\r\n", b"*1\n$4\nPING\n", b"*1\r\n#4\r\n", b"*1\r\nPING\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$a\r\n", b"*1\r\n$\r\n",
    b"*1\r\n$04\r\nPING\r\n", b"*1\r\n$ 4\r\nPING\r\n", b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", b"*1\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n",
    b"*1048577\r\n", b"*2147483648\r\n", b"*99999999999999999999\r\n", b"*1\r\n$536870913\r\n", b"*1\r\n$99999999999999999999\r\n",
    b"*1\0\r\n$4\r\nPING\r\n", b"*1\r\n$4\0\r\nPING\r\n", b"*1\0\r\n" + b"PING\r\n" * 12000,
    b"*1\r\n$4\0\r\n" + b"PING\r\n" * 12000, b"*" + b"1" * 70000, b"*1\r\n$" + b"1" * 70000, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"host: x\r\nPING\r\n",
    encode("POST", "/"), encode("host:"), encode("", "x"), encode("x" * 200, "y" * 200, "z" * 300), encode("config", "x" * 200),
    encode("foo", *["a" * 30] * 10), encode("setrange", "k", 536870912, "x"), requests("multi") + b"*a\r\n",
    requests("set k v") + b"*1\r\n$x\r\n" + requests("get k"), requests("ping|ping") + b"*1\r\n$4\r\nQUIT\r\n" + requests("ping"),
]  # fmt: skip

REPLIES = [
    requests(line)
    for line in (
        "quit x",
        "QUIT|PING",
        "multi|quit|exec",
        "client reply off|ping|client reply on|ping",
        "client reply skip|ping|ping",
        "client reply off|quit",
        "client reply skip|client reply skip|ping|ping",
        "client reply off|client reply skip|ping|client reply on",
        "client reply off|client reply skip|ping|ping|ping|client reply on",
        "client reply skip|multi|ping|exec",
        "multi|client reply off|ping|exec|ping",
        "multi|client reply skip|ping|exec|ping",
        "client reply off|subscribe x|ping",
        "client reply skip|subscribe a b|ping",
        "client reply skip|hello 9|ping",
        "subscribe x|ping|ping y|get a|quit|ping",
        "subscribe x|multi|reset|multi|exec",
        "subscribe a b a|unsubscribe a zz|punsubscribe|unsubscribe",
        "psubscribe *|publish a b",
        "multi|subscribe x|get a|exec|get a|unsubscribe x|get a",
        "select 1|set k 1|reset|get k|select 1|del k",
        "auth x y z",
        "hello 3 auth a",
        "hello 3 setname",
        "hello 5 foo",
        "multi|hello 2 foo|exec",
        "multi|auth x|exec",
        "watch a|multi|incr wrong x|discard|exec",
        "multi|blpop nokey 0|exec",
        "info nosuch|ping",
    )
] + [requests("client reply skip") + b"*a\r\n", requests("client reply off") + b"*a\r\n"]

CASES = INLINE + ERRORS + REPLIES
