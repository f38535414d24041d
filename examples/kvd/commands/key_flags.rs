//! What commands do with their keys, for COMMAND GETKEYSANDFLAGS, in the words of Redis: `RO` reads the key, `RW` changes it, `OW`
//! overwrites it, and `RM` removes it. `access` returns or copies a part of its value; `update`, `insert` and `delete` say
//! what the command does with the value.

use crate::resp::request::Args;

type Flags = &'static [&'static str];

const READ: Flags = &["RO"];
const RETURNED: Flags = &["RO", "access"];
const UPDATED: Flags = &["RW", "update"];
const RETURNED_AND_UPDATED: Flags = &["RW", "access", "update"];
const EXTENDED: Flags = &["RW", "insert"];
const TAKEN: Flags = &["RW", "access", "delete"];
const REDUCED: Flags = &["RW", "delete"];
const OVERWRITTEN: Flags = &["OW", "update"];
const CREATED: Flags = &["OW", "insert"];
const REMOVED: Flags = &["RM", "delete"];

/// The flags of a key of a command, which the arguments from the third on describe. It is the first one if `number` is 0.
pub(super) fn key_flags(name: &str, args: Args<'_>, number: usize) -> Flags {
    let (first, others) = of_command(name, args);
    if number == 0 { first } else { others }
}

/// The flags of the first key, and of each of the others.
fn of_command(name: &str, args: Args<'_>) -> (Flags, Flags) {
    let same = |flags| (flags, flags);
    match name {
        "exists" | "hexists" | "hlen" | "hstrlen" | "llen" | "memory|usage" | "object|encoding"
        | "object|refcount" | "scard" | "sismember" | "strlen" | "touch" | "type" | "watch"
        | "zcard" => same(READ),
        "append" | "hsetnx" | "linsert" | "lpush" | "lpushx" | "rpush" | "rpushx" | "sadd" => {
            same(EXTENDED)
        }
        "blmpop" | "blpop" | "brpop" | "bzmpop" | "bzpopmax" | "bzpopmin" | "getdel" | "lmpop"
        | "lpop" | "rpop" | "spop" | "zmpop" | "zpopmax" | "zpopmin" => same(TAKEN),
        "decr" | "decrby" | "getex" | "getset" | "hincrby" | "hincrbyfloat" | "incr" | "incrby"
        | "incrbyfloat" | "move" | "zincrby" => same(RETURNED_AND_UPDATED),
        "expire" | "expireat" | "hmset" | "hset" | "lset" | "persist" | "pexpire" | "pexpireat"
        | "setrange" | "zadd" => same(UPDATED),
        "hdel" | "lrem" | "ltrim" | "srem" | "zrem" | "zremrangebylex" | "zremrangebyrank"
        | "zremrangebyscore" => same(REDUCED),
        "del" | "unlink" => same(REMOVED),
        "mset" | "psetex" | "setex" => same(OVERWRITTEN),
        "msetnx" | "setnx" => same(CREATED),
        // The value behind the key may be the word, too.
        "set" if args.from(5).any(|it| it.eq_ignore_ascii_case(b"get")) => {
            same(RETURNED_AND_UPDATED)
        }
        "set" => same(OVERWRITTEN),
        "blmove" | "brpoplpush" | "lmove" | "rpoplpush" | "smove" => (TAKEN, EXTENDED),
        "rename" => (TAKEN, OVERWRITTEN),
        "renamenx" => (TAKEN, CREATED),
        "copy" | "sort" => (RETURNED, OVERWRITTEN),
        "sdiffstore" | "sunionstore" | "zdiffstore" | "zinterstore" | "zrangestore"
        | "zunionstore" => (OVERWRITTEN, RETURNED),
        "sinterstore" => (UPDATED, RETURNED),
        _ => same(RETURNED),
    }
}
