/** Uploads: of any source, at the server's pace, and what becomes of them when a side fails. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { EventEmitter, once } from "node:events";
import { constants, createServer } from "node:http2";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { connect, status, upload } from "falrpc";

import { failure, overheard, serve } from "./server.mjs";

/** Takes all and answers with how much it was, its digest, and how large the largest chunk was. */
async function take(call, answer) {
  const [hash, sizes] = [createHash("sha256"), []];
  let name;
  for await (const { part } of call) {
    if (part.case === "header") name = part.value.fileName;
    else sizes.push(hash.update(part.value) && part.value.length);
  }
  const size = BigInt(sizes.reduce((sum, one) => sum + one, 0));
  answer(null, { url: name, size, sha256: hash.digest(), parts: Math.max(0, ...sizes) });
}

const bytes = Buffer.alloc(3_000_001, "falrpc");
const digest = (what) => createHash("sha256").update(what).digest();

async function* odd() {
  for (let at = 0, size = 1; at < bytes.length; at += size, size *= 3) yield bytes.subarray(at, at + size);
}

const sources = { bytes: () => bytes, generator: odd, list: () => [bytes.subarray(0, 5), bytes.subarray(5)] };
for (const [name, source] of Object.entries(sources)) {
  test(`an upload of a ${name} arrives whole, in chunks of 256 KiB at the most`, async (t) => {
    const { client } = await serve(t, { upload: take });
    const { url, size, sha256, parts } = await upload(client, { fileName: "a.bin" }, source(), { timeoutSeconds: 60 });
    assert.deepEqual([url, size, parts], ["a.bin", 3_000_001n, 256 * 1024]);
    assert.deepEqual(Buffer.from(sha256), digest(bytes));
  });
}

test("an upload of a file's stream arrives whole", async (t) => {
  const { client } = await serve(t, { upload: take });
  const { size } = await upload(client, { fileName: "a" }, createReadStream(process.execPath, { end: 999_999 }));
  assert.equal(size, 1_000_000n);
});

test("a reader that fails cancels the call, and its error is thrown", async (t) => {
  const server = new EventEmitter();
  const begun = once(server, "begun");
  const gone = once(server, "gone");
  const take = (call) => {
    server.emit("begun");
    call.on("cancelled", () => server.emit("gone")).resume();
  };
  const { client } = await serve(t, { upload: take });
  async function* source() {
    yield bytes;
    await begun;
    throw new Error("the disk broke");
  }
  await assert.rejects(upload(client, { fileName: "a" }, source(), { timeoutSeconds: 60 }), { message: "the disk broke" });
  await gone;
});

const [DATA, HEADERS, RST_STREAM, END_STREAM] = [0, 1, 3, 1];
const aborted = () => {
  const controller = new AbortController();
  return { fail: () => (controller.abort(), new Promise(() => {})), signal: controller.signal };
};
const ends = {
  "at its source": () => ({ fail: () => Promise.reject(new Error("the disk broke")) }),
  "by a signal": aborted,
  "by its deadline": () => ({ fail: () => new Promise(() => {}), timeoutSeconds: 0.2 }),
};
for (const [name, how] of Object.entries(ends)) {
  test(`an upload that ends ${name} never looks whole to the server`, async (t) => {
    const { client, frames } = await overheard(t, { upload: (call) => call.on("error", () => {}).resume() });
    for (let i = 0; i < 40; i++) {
      const { fail, signal, timeoutSeconds = 60 } = how();
      async function* source() {
        yield bytes.subarray(0, i * 5000 + 1);
        await pause(10); // it is sent
        await fail();
      }
      await assert.rejects(upload(client, { fileName: "a" }, source(), { signal, timeoutSeconds }));
    }
    const count = (wanted, flag = 0) => frames.filter(({ type, flags }) => type === wanted && (flags & flag) === flag).length;
    for (let i = 0; i < 500 && count(RST_STREAM) < count(HEADERS); i++) await pause(20);
    assert.ok(count(HEADERS) > 20, `only ${count(HEADERS)} began`);
    assert.equal(count(DATA, END_STREAM), 0);
    assert.equal(count(RST_STREAM), count(HEADERS));
  });
}

test("an upload whose connection gives no sign of life never looks whole to the server", async (t) => {
  const options = { "grpc.keepalive_time_ms": 100, "grpc.keepalive_timeout_ms": 100 };
  const take = { upload: (call) => call.on("error", () => {}).resume() };
  const { client, frames, line } = await overheard(t, take, options);
  for (let i = 0; i < 10; i++) {
    async function* source() {
      yield bytes.subarray(0, 5000);
      await pause(50); // it is sent
      line.isSilent = true;
      await new Promise(() => {});
    }
    const call = upload(client, { fileName: "a" }, source(), { timeoutSeconds: 60 });
    await assert.rejects(call, { code: status.UNAVAILABLE });
    line.isSilent = false;
  }
  await pause(100); // what is still on its way
  assert.equal(frames.filter(({ type }) => type === HEADERS).length, 10);
  assert.equal(frames.filter(({ type, flags }) => type === DATA && flags & END_STREAM).length, 0);
});

test("an upload that is whole says so, and is not reset", async (t) => {
  const { client, frames } = await overheard(t, { upload: take });
  await upload(client, { fileName: "a" }, bytes, { timeoutSeconds: 60 });
  assert.equal(frames.filter(({ type, flags }) => type === DATA && flags & END_STREAM).length, 1);
  assert.equal(frames.filter(({ type }) => type === RST_STREAM).length, 0);
});

test("a chunk that is no bytes is refused, and cancels the call", async (t) => {
  const { client } = await serve(t, { upload: take });
  await assert.rejects(upload(client, { fileName: "a" }, ["text"], { timeoutSeconds: 60 }), TypeError);
});

test("an error of the server ends an upload whose source is silent or endless", async (t) => {
  const early = (call, answer) => call.once("data", () => answer(failure(status.INVALID_ARGUMENT)));
  const { client } = await serve(t, { upload: early });
  const closed = [];
  async function* endless() {
    try {
      for (;;) yield bytes;
    } finally {
      closed.push("endless");
    }
  }
  async function* silent() {
    yield bytes;
    await new Promise(() => {});
  }
  for (const source of [endless(), silent()]) {
    const call = upload(client, { fileName: "a" }, source, { timeoutSeconds: 60 });
    await assert.rejects(call, { code: status.INVALID_ARGUMENT });
  }
  for (let i = 0; i < 500 && closed.length === 0; i++) await pause(20);
  assert.deepEqual(closed, ["endless"]);
});

test("an error ends an upload when the server resets the stream behind it", async (t) => {
  const server = createServer();
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "3" }, { endStream: true });
    stream.close(constants.NGHTTP2_NO_ERROR);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const client = connect(`127.0.0.1:${server.address().port}`);
  t.after(() => (client.close(), server.close()));
  async function* silent() {
    yield bytes;
    await new Promise(() => {});
  }
  for (let i = 0; i < 20; i++) {
    const call = upload(client, { fileName: "a" }, silent(), { timeoutSeconds: 10 });
    await assert.rejects(call, { code: status.INVALID_ARGUMENT });
  }
});

test("an answer that comes early counts", async (t) => {
  const early = (call, answer) => call.once("data", () => answer(null, { url: "there already" }));
  const { client } = await serve(t, { upload: early });
  async function* silent() {
    yield bytes;
    await new Promise(() => {});
  }
  assert.equal((await upload(client, { fileName: "a" }, silent(), { timeoutSeconds: 60 })).url, "there already");
});

test("a server that is slow slows the reader down", async (t) => {
  let [read, go] = [0];
  const { client } = await serve(t, { upload: (call, answer) => (go = () => take(call, answer)) });
  async function* source() {
    for (; read < 400; read++) yield Buffer.alloc(256 * 1024);
  }
  const call = upload(client, { fileName: "a" }, source(), { timeoutSeconds: 60 });
  for (let i = 0; i < 500 && read < 2; i++) await pause(20);
  await pause(500);
  assert.ok(read >= 2 && read < 60, `${read} of 400 chunks were read`);
  go();
  assert.equal((await call).size, 400n * 256n * 1024n);
});

test("a signal or a deadline ends an upload whose source is silent", async (t) => {
  const { client } = await serve(t, { upload: (call) => call.resume() });
  async function* silent() {
    await new Promise(() => {});
  }
  const signal = AbortSignal.timeout(100);
  const aborted = upload(client, { fileName: "a" }, silent(), { signal });
  await assert.rejects(aborted, (error) => error.code === status.CANCELLED && error.cause === signal.reason);
  const late = upload(client, { fileName: "a" }, silent(), { timeoutSeconds: 0.1 });
  await assert.rejects(late, { code: status.DEADLINE_EXCEEDED });
});

test("a file's stream is closed with its call, however that ends", async (t) => {
  const early = (call, answer) => call.once("data", () => answer(failure(status.INVALID_ARGUMENT)));
  const { client } = await serve(t, { upload: early });
  const silent = () => new PassThrough();
  const file = () => createReadStream(process.execPath);
  const calls = [
    [silent(), { timeoutSeconds: 60 }, status.INVALID_ARGUMENT],
    [file(), { timeoutSeconds: 60 }, status.INVALID_ARGUMENT],
    [silent(), { timeoutSeconds: 0 }, status.DEADLINE_EXCEEDED],
    [file(), { signal: AbortSignal.abort() }, status.CANCELLED],
  ];
  for (const [source, how, code] of calls) {
    await assert.rejects(upload(client, { fileName: "a" }, source, how), { code });
    assert.ok(source.destroyed);
  }
  // Nobody reads it, and nobody hears its error: that must not end the process.
  const missing = createReadStream("/no/such/file");
  const refused = upload(client, { fileName: "a" }, missing, { signal: AbortSignal.abort() });
  await assert.rejects(refused, { code: status.CANCELLED });
  for (let i = 0; i < 500 && !missing.closed; i++) await pause(20);
  assert.ok(missing.closed);
});

test("a server that can't be reached fails an upload", async () => {
  const client = connect("127.0.0.1:1");
  await assert.rejects(upload(client, { fileName: "a" }, bytes), { code: status.UNAVAILABLE });
  client.close();
});
