/** Calls with one answer: what a client does by default. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";

import { connect, credentials, input, status } from "falrpc";

import { handle, serve, unavailable } from "./server.mjs";

const refusing = (counts, name) => (call, answer) => {
  counts[name] = (counts[name] ?? 0) + 1;
  answer(unavailable());
};

test("what only reads is tried three times on UNAVAILABLE, and what costs money once", async (t) => {
  const counts = {};
  const unary = ["status", "result", "cancel", "run", "submit"];
  const streams = ["streamStatus", "subscribe", "stream", "streamWorkflow"];
  const handlers = Object.fromEntries(unary.map((name) => [name, refusing(counts, name)]));
  for (const name of streams) handlers[name] = (call) => refusing(counts, name)(call, (error) => call.emit("error", error));
  handlers.upload = (call, answer) => call.on("data", () => {}).on("end", () => refusing(counts, "upload")(call, answer));
  const { client } = await serve(t, handlers);
  const calls = [...unary, ...streams].map(async (name) => {
    const call = client[name]({}, { timeoutSeconds: 60 });
    if (streams.includes(name)) for await (const message of call) assert.fail(message);
    await call;
  });
  calls.push(client.upload([{ part: { case: "header", value: {} } }], { timeoutSeconds: 60 }));
  for (const { reason } of await Promise.allSettled(calls)) assert.equal(reason.code, status.UNAVAILABLE);
  const once = { run: 1, submit: 1, subscribe: 1, stream: 1, streamWorkflow: 1, upload: 1 };
  assert.deepEqual(counts, { status: 3, result: 3, cancel: 3, streamStatus: 3, ...once });
});

test("a Status that fails once has an answer", async (t) => {
  const answers = [unavailable(), null];
  const { client } = await serve(t, { status: (call, answer) => answer(answers.shift(), { status: { state: 3 } }) });
  assert.equal((await client.status({ handle }, { timeoutSeconds: 60 })).status.state, 3);
});

test("the token and the metadata of a call are sent with it", async (t) => {
  const seen = [];
  const run = ({ metadata, request }, answer) => {
    seen.push([metadata.get("authorization"), metadata.get("x-one"), metadata.get("x-two-bin"), request.endpointId]);
    answer(null, {});
  };
  const { client } = await serve(t, { run }, { clientOptions: { token: "secret" } });
  const metadata = { "x-one": "1", "x-two-bin": Buffer.from([0, 255]) };
  await client.run({ endpointId: "a/b" }, { timeoutSeconds: 60, metadata });
  assert.deepEqual(seen, [[["Bearer secret"], ["1"], [Buffer.from([0, 255])], "a/b"]]);
});

test("a token that no header can carry is refused, and not shown", () => {
  for (const token of ["secret\n", "sec ret", "secrét", "secret\0"])
    assert.throws(() => connect("localhost:1", { token }), (error) => error.name === "TypeError" && !/secr/.test(error.message));
});

test("a message of nearly 64 MiB passes both ways, and a larger one neither way", async (t) => {
  const seen = [];
  const run = ({ request }, answer) => {
    seen.push(request.endpointId);
    answer(null, { output: { value: { case: "json", value: request.input?.value.value ?? "x".repeat(2 ** 26) } } });
  };
  const { client } = await serve(t, { run }, { serverOptions: { "grpc.max_send_message_length": -1 } });
  const input = (count) => ({ value: { case: "json", value: "x".repeat(count) } });
  const { output } = await client.run({ endpointId: "both", input: input(2 ** 26 - 100) }, { timeoutSeconds: 60 });
  assert.equal(output.value.value.length, 2 ** 26 - 100);
  await assert.rejects(client.run({ endpointId: "down" }, { timeoutSeconds: 60 }), { code: status.RESOURCE_EXHAUSTED });
  const up = client.run({ endpointId: "up", input: input(2 ** 26) }, { timeoutSeconds: 60 });
  await assert.rejects(up, { code: status.RESOURCE_EXHAUSTED });
  assert.deepEqual(seen, ["both", "down"]);
});

test("a call ends at its deadline, however that is said", async (t) => {
  const { client } = await serve(t, { run: () => {} });
  await assert.rejects(client.run({}, { timeoutSeconds: 0.1 }), { code: status.DEADLINE_EXCEEDED });
  await assert.rejects(client.run({}, { deadline: Date.now() + 100 }), { code: status.DEADLINE_EXCEEDED });
  await assert.rejects(client.run({}, { deadline: new Date(0) }), { code: status.DEADLINE_EXCEEDED });
});

test("a signal cancels a call here and at the server, and leaves no listener behind", async (t) => {
  const controller = new AbortController();
  const gone = new Promise((resolve) => {
    t.run = (call) => {
      call.on("cancelled", resolve);
      controller.abort(new Error("enough"));
    };
  });
  const { client } = await serve(t, { run: t.run, status: (call, answer) => answer(null, {}) });
  const listening = counted(controller.signal);
  await client.status({ handle }, { signal: controller.signal, timeoutSeconds: 60 });
  await settled();
  assert.equal(listening(), 0);
  const call = client.run({}, { signal: controller.signal, timeoutSeconds: 60 });
  await assert.rejects(call, { code: status.CANCELLED, cause: new Error("enough") });
  await gone;
});

test("a call whose signal or deadline has come before is never sent", async (t) => {
  let count = 0;
  const { client } = await serve(t, { run: (call, answer) => (count++, answer(null, {})) });
  await client.run({}, { timeoutSeconds: 60 });
  const signal = AbortSignal.abort();
  for (let i = 0; i < 5; i++) await assert.rejects(client.run({}, { signal }), { code: status.CANCELLED, cause: signal.reason });
  for (const how of [{ timeoutSeconds: 0 }, { timeoutSeconds: -1 }, { deadline: new Date(0) }])
    await assert.rejects(client.run({}, how), { code: status.DEADLINE_EXCEEDED });
  await client.run({}, { timeoutSeconds: 60 });
  assert.equal(count, 2);
});

test("a call that is cancelled as soon as it is made ends at the server, too", async (t) => {
  let [begun, ended] = [0, 0];
  const run = (call) => (begun++, call.on("cancelled", () => ended++));
  const { client } = await serve(t, { run, status: (call, answer) => answer(null, {}) });
  await client.status({}, { timeoutSeconds: 60 });
  for (let i = 0; i < 5; i++) {
    const controller = new AbortController();
    const call = client.run({}, { signal: controller.signal, timeoutSeconds: 60 });
    controller.abort();
    await assert.rejects(call, { code: status.CANCELLED });
  }
  for (let i = 0; i < 100 && (ended < begun || i < 2); i++) await client.status({}, { timeoutSeconds: 60 });
  assert.equal(ended, begun);
});

test("a request of the wrong shape is refused before anything is sent", async (t) => {
  const { client } = await serve(t, { submit: () => assert.fail("it came") });
  const request = { endpointId: "a/b", queue: { maxQueueLength: "many" } };
  await assert.rejects(client.submit(request, { timeoutSeconds: 60 }), /int32/);
});

test("TLS is spoken to all but this machine", async (t) => {
  const first = await new Promise((resolve) => {
    const server = createServer((socket) => socket.once("data", (bytes) => (resolve(bytes), socket.destroy())));
    server.listen(0, "0.0.0.0", () => {
      const client = connect(`0.0.0.0:${server.address().port}`); // reaches it, and is no loopback address by name
      t.after(() => (client.close(), server.close()));
      client.run({}, { timeoutSeconds: 60 }).catch(() => {});
    });
  });
  assert.equal(first[0], 22); // a handshake
});

const plain = ["localhost:1", "127.0.0.1:1", "127.1.2.3", "[::1]:1", "::1", "dns:localhost:1", "dns:///LocalHost:1"];
const remote = ["localhost.example.com:1", "127.0.0.1.example.com:1", "example.com", "[::2]:1", "ipv4:127.0.0.1:1,10.0.0.1:1"];
remote.push("dns://10.0.0.1/localhost:1", "0.0.0.0:1/localhost");
for (const target of [...plain, "ipv6:[::1]:1", "ipv4:127.0.0.1:1,127.0.0.2:1", ...remote]) {
  test(`${target} is ${remote.includes(target) ? "no address of" : "an address of"} this machine`, (t) => {
    const secure = t.mock.method(credentials, "createSsl");
    connect(target).close();
    assert.equal(secure.mock.callCount(), remote.includes(target) ? 1 : 0);
  });
}

test("nobody listens: the error says so", async () => {
  const client = connect("127.0.0.1:1");
  await assert.rejects(client.run({ input: input({}) }, { timeoutSeconds: 60 }), { code: status.UNAVAILABLE, details: /ECONNREFUSED/ });
  client.close();
});

/** Counts the listeners that a signal has. */
function counted(signal) {
  let count = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args) => (count++, addEventListener.apply(signal, args));
  signal.removeEventListener = (...args) => (count--, removeEventListener.apply(signal, args));
  return () => count;
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
