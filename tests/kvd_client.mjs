// What the READMEs of node-redis and ioredis do, with the example `kvd`: node tests/kvd_client.mjs PORT
// The two packages are looked up in the folder KVD_NODE_MODULES (`npm install redis ioredis`), or from here.

import assert from "node:assert";
import { createRequire } from "node:module";

const from = process.env.KVD_NODE_MODULES;
const require = createRequire(from ? `${from}/` : import.meta.url);
const { BasicClientSideCache, createClient } = require("redis");
const Redis = require("ioredis");
const port = Number(process.argv[2]);

for (const RESP of [2, 3]) {
  const client = createClient({ url: `redis://127.0.0.1:${port}`, RESP });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  await client.flushAll();
  await client.set("key", "value");
  assert.equal(await client.get("key"), "value");
  await client.hSet("session:123", { name: "John", surname: "Smith", age: 29 });
  assert.deepEqual({ ...(await client.hGetAll("session:123")) }, { name: "John", surname: "Smith", age: "29" });
  await client.set("k", "v", { EX: 10, NX: true });
  assert.equal(await client.sendCommand(["SET", "a", "b", "NX"]), "OK");
  const [, got] = await client.multi().set("other", "x").get("key").exec();
  assert.equal(got, "value");
  let count = 0;
  for await (const keys of client.scanIterator({ MATCH: "*", COUNT: 2 })) {
    count += Array.isArray(keys) ? keys.length : 1;
  }
  assert.equal(count, 5);
  const subscriber = client.duplicate();
  await subscriber.connect();
  const message = new Promise((resolve) => subscriber.subscribe("channel", resolve));
  while ((await client.publish("channel", "hello")) !== 1);
  assert.equal(await message, "hello");
  await subscriber.unsubscribe("channel");
  await client.zAdd("z", [{ score: 1, value: "a" }, { score: 2.5, value: "b" }]);
  const range = await client.zRangeWithScores("z", 0, -1);
  assert.deepEqual(range.map((it) => [it.value, it.score]), [["a", 1], ["b", 2.5]]);
}

// A client that keeps the values of keys until the server says that they have changed.
{
  const cache = new BasicClientSideCache({ recordStats: true });
  const cached = createClient({ url: `redis://127.0.0.1:${port}/1`, RESP: 3, clientSideCache: cache });
  const other = createClient({ url: `redis://127.0.0.1:${port}/1` });
  await cached.connect();
  await other.connect();
  await other.set("key", 0);
  await other.hSet("hash", "field", 0);
  const values = async () => [await cached.get("key"), await cached.hGet("hash", "field")];
  // What is in the cache needs no turn of the loop, which the next invalidation does.
  const until = async (wanted) => {
    while ((await values()).some((it) => it !== wanted)) await new Promise(setImmediate);
  };
  for (let number = 1; number < 20; number++) {
    await values();
    const { hitCount } = cache.stats();
    await values();
    assert.equal(cache.stats().hitCount, hitCount + 2);
    await other.multi().set("key", number).hSet("hash", "field", number).exec();
    await until(`${number}`);
    // It has the invalidation when it has the reply.
    await cached.set("key", "own");
    assert.equal(await cached.get("key"), "own");
  }
  await other.flushDb();
  await until(null);
  await Promise.all([cached.close(), other.close()]);
}

const client = new Redis(port, "127.0.0.1");
await client.set("x", 1);
assert.deepEqual(await client.pipeline().incr("x").get("x").get("none").exec(), [[null, 2], [null, "2"], [null, null]]);
assert.deepEqual(await client.multi().incr("x").exec(), [[null, 3]]);
const pushed = new Redis(port, "127.0.0.1");
const popped = client.blpop("list", 30);
await pushed.rpush("list", "element");
assert.deepEqual(await popped, ["list", "element"]);
let count = 0;
for await (const keys of client.scanStream()) count += keys.length;
assert(count >= 7);
process.exit(0);
