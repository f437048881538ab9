/** Server streams: read to the end, left, cancelled, failed. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http2";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { connect, reason, status } from "falrpc";

import { failure, overheard, serve } from "./server.mjs";

const [HEADERS, RST_STREAM] = [1, 3]; // frames

const event = (value) => ({ kind: { case: "event", value: { value: { case: "json", value: `${value}` } } } });

/** A stream of numbers, for ever, that tells when its caller has gone. */
function endless() {
  const seen = { calls: [] };
  seen.stream = (call) => {
    seen.calls.push(once(call, "cancelled"));
    const timer = setInterval(() => call.write(event(1)), 5);
    call.on("cancelled", () => clearInterval(timer));
  };
  return seen;
}

test("a stream is read to its end", async (t) => {
  const { client } = await serve(t, { stream: (call) => (call.write(event(1)), call.write(event(2)), call.end()) });
  const texts = [];
  for await (const { kind } of client.stream({}, { timeoutSeconds: 60 })) texts.push(kind.value.value.value);
  assert.deepEqual(texts, ["1", "2"]);
});

test("leaving the loop cancels the call", async (t) => {
  const seen = endless();
  const { client } = await serve(t, seen);
  for await (const { kind } of client.stream({}, { timeoutSeconds: 60 })) if (kind.case === "event") break;
  await seen.calls[0];
});

test("a stream that is given up before anything was read cancels the call", async (t) => {
  const { client, frames } = await overheard(t, { stream: () => {} });
  const begun = (wanted) => frames.filter(({ type }) => type === wanted).length;
  const stream = client.stream({}, { timeoutSeconds: 60 });
  const reading = stream[Symbol.asyncIterator]();
  for (let i = 0; i < 500 && begun(HEADERS) === 0; i++) await pause(20);
  assert.deepEqual(await reading.return("gone"), { value: "gone", done: true });
  for (let i = 0; i < 500 && begun(RST_STREAM) === 0; i++) await pause(20);
  assert.deepEqual([begun(HEADERS), begun(RST_STREAM)], [1, 1]);
});

test("a stream is read once", async (t) => {
  const { client } = await serve(t, { stream: (call) => (call.write(event(1)), call.end()) });
  const stream = client.stream({}, { timeoutSeconds: 60 });
  const read = async () => {
    for await (const message of stream) assert.equal(message.kind.case, "event");
  };
  await read();
  await assert.rejects(read(), { name: "TypeError", message: /once/ });
});

test("an error in the loop cancels the call", async (t) => {
  const seen = endless();
  const { client } = await serve(t, seen);
  const read = async () => {
    for await (const message of client.stream({}, { timeoutSeconds: 60 })) throw new Error(`my own ${message.kind.case}`);
  };
  await assert.rejects(read(), { message: "my own event" });
  await seen.calls[0];
});

test("cancel ends the loop with CANCELLED", async (t) => {
  const seen = endless();
  const { client } = await serve(t, seen);
  const stream = client.stream({}, { timeoutSeconds: 60 });
  const read = async () => {
    for await (const message of stream) if (message) stream.cancel();
  };
  await assert.rejects(read(), { code: status.CANCELLED });
  await seen.calls[0];
});

test("a signal ends the loop with CANCELLED and its reason", async (t) => {
  const seen = endless();
  const { client } = await serve(t, seen);
  const controller = new AbortController();
  const read = async () => {
    const stream = client.stream({}, { signal: controller.signal, timeoutSeconds: 60 });
    for await (const message of stream) if (message) controller.abort("enough");
  };
  await assert.rejects(read(), { code: status.CANCELLED, cause: "enough" });
  await seen.calls[0];
});

test("a failure that comes before anybody reads is not lost, nor thrown at nobody", async (t) => {
  const { client } = await serve(t, { stream: () => {} });
  const stream = client.stream({}, { timeoutSeconds: 0.05 });
  await pause(200);
  const read = async () => {
    for await (const message of stream) assert.fail(message);
  };
  await assert.rejects(read(), { code: status.DEADLINE_EXCEEDED });
});

for (const count of [1, 2, 30, 300]) {
  test(`${count} messages before an error reach a reader who is late`, async (t) => {
    const stream = (call) => {
      for (let i = 0; i < count; i++) call.write(event(i));
      call.emit("error", failure(status.UNKNOWN, { info: { reason: "STREAM_TRUNCATED" } }));
    };
    const { client } = await serve(t, { stream });
    const got = [];
    const read = async () => {
      for await (const { kind } of client.stream({}, { timeoutSeconds: 60 })) {
        got.push(Number(kind.value.value.value));
        if (got.length < 25) await pause(10);
      }
    };
    await assert.rejects(read(), (error) => error.code === status.UNKNOWN && reason(error) === "STREAM_TRUNCATED");
    assert.deepEqual(got, [...Array(count).keys()]);
  });
}

test("a connection that breaks behind an error ends the loop of a late reader with that error", async (t) => {
  const server = createServer();
  server.on("stream", (stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
    for (let i = 0; i < 100; i++) stream.write(Buffer.from([0, 0, 0, 0, 0]));
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "2", "grpc-message": "broken" }));
    stream.end();
    const { session } = stream;
    globalThis.setTimeout(() => session.destroy(), 200);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const client = connect(`127.0.0.1:${server.address().port}`);
  t.after(() => (client.close(), server.close()));
  const read = async () => {
    for await (const message of client.stream({}, { timeoutSeconds: 30 })) await pause(message && 40);
  };
  await assert.rejects(read(), { code: status.UNKNOWN, details: "broken" });
});

test("a reader who is slow slows the server down", async (t) => {
  let written = 0;
  const stream = async (call) => {
    const large = event(`"${"x".repeat(100_000)}"`);
    while (written < 1000) {
      written++;
      if (!call.write(large)) await once(call, "drain");
    }
    call.end();
  };
  const { client } = await serve(t, { stream });
  const reading = client.stream({}, { timeoutSeconds: 60 })[Symbol.asyncIterator]();
  assert.equal((await reading.next()).value.kind.case, "event");
  await pause(300);
  assert.ok(written < 200, `${written} of 1000 were sent`);
  await reading.return();
});
