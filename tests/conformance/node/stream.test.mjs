// fal.stream and fal.queue.streamStatus: docs/fal-http-api.md §7.5, §8, §9.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { ApiError, ValidationError } from "@fal-ai/client";

import { ended, evidence, fal, reset, scenario, submitted, UUID } from "./emulator.mjs";

beforeEach(reset);

/** Every event of a stream, and what done() says of its end: `result` or `error`. */
async function whole(stream) {
  const end = stream.done().then(
    (result) => ({ result }),
    (error) => ({ error }),
  );
  const events = [];
  for await (const event of stream) {
    events.push(event);
  }
  return { events, ...(await end) };
}

test("a workflow streams its steps' events, and its output last", async () => {
  const stream = await fal.stream("workflows/fal-ai/sdxl-sticker", { input: { prompt: "a cat" } });
  const { events, result } = await whole(stream);
  const steps = ["node_1", "node_2", "node_3"];
  assert.deepEqual(
    events.map(({ type, node_id }) => [type, node_id]),
    [...steps.flatMap((step) => [["submit", step], ["completion", step]]), ["output", undefined]],
  );
  assert.deepEqual(result, events.at(-1));
  assert.equal(new URL(result.output.image.url).origin, "https://v3.fal.media");
  assert.match(stream.requestId, UUID);
  const [{ headers, path }] = await evidence({ operation: "stream" });
  assert.equal(path, "/workflows/fal-ai/sdxl-sticker/stream");
  assert.match(headers.accept, /text\/event-stream/);
});

test("a text model streams cumulative text, the last event is whole", async () => {
  const stream = await fal.stream("fal-ai/any-llm", { input: { prompt: "wie geht's? — größer" } });
  const { events, result } = await whole(stream);
  assert.ok(events.length > 2);
  for (const [number, { output, partial, error }] of events.entries()) {
    assert.deepEqual([partial, error], [number < events.length - 1, null]);
    assert.ok(number === 0 || output.startsWith(events[number - 1].output));
  }
  assert.deepEqual(result, events.at(-1));
  assert.match(result.output, /größer/);
});

test("listeners of a stream hear every event", async () => {
  const input = { events: [{ a: 1 }, { a: 2 }], delay: 0.02 };
  const stream = await fal.stream("emulator/events", { input });
  const heard = [];
  stream.on("data", (event) => heard.push(event));
  stream.on("done", (event) => heard.push({ done: event }));
  await stream.done();
  assert.deepEqual(heard, [{ a: 1 }, { a: 2 }, { done: { a: 2 } }]);
});

test("the status stream ends with COMPLETED and tells each log line once", async () => {
  const requestId = await submitted("emulator/logs", { count: 4 });
  const stream = await fal.queue.streamStatus("emulator/logs", { requestId, logs: true });
  const { events, result } = await whole(stream);
  assert.equal(result.status, "COMPLETED");
  assert.deepEqual(
    events.flatMap(({ logs }) => logs ?? []).map(({ message }) => message),
    ["line 0", "line 1", "line 2", "line 3"],
  );
  assert.match(stream.requestId, UUID);
});

test("the status stream of an unknown request is an ApiError 404", async () => {
  const requestId = "00000000-0000-4000-8000-000000000000";
  const { events, error } = await whole(await fal.queue.streamStatus("emulator/echo", { requestId }));
  assert.ok(error instanceof ApiError);
  assert.deepEqual([error.status, events], [404, []]);
});

test("a refused input is a ValidationError on done(), and no event", async () => {
  const { events, error } = await whole(await fal.stream("fal-ai/any-llm", { input: { prompt: 5 } }));
  assert.ok(error instanceof ValidationError);
  assert.deepEqual(events, []);
  const [{ loc, type }] = error.getFieldErrors("prompt");
  assert.deepEqual([loc, type], [["body", "prompt"], "string_type"]);
  assert.match(error.requestId, UUID);
});

test("a workflow's failed step is an event, not an error of the stream", async () => {
  const stream = await fal.stream("workflows/emulator/failing-step", { input: { prompt: "a cat" } });
  const { result } = await whole(stream);
  assert.equal(result.type, "error");
  assert.equal(result.node_id, "node_2");
  assert.equal(result.error.status, 422);
  assert.deepEqual(result.error.body.detail[0].loc, ["body", "num_images"]);
});

test("a model that doesn't stream is an ApiError 404 with its path", async () => {
  const { error } = await whole(await fal.stream("emulator/sleep", { input: { seconds: 0 } }));
  assert.deepEqual([error.status, error.body], [404, { detail: "Path /stream not found" }]);
});

for (const end of ["cut", "reset"]) {
  test(`a stream that breaks (${end}) rejects done() with the client's own ApiError 500`, async () => {
    const input = { events: [{ a: 1 }, { a: 2 }], delay: 0.1, end };
    const { events, error } = await whole(await fal.stream("emulator/events", { input }));
    assert.deepEqual(events, [{ a: 1 }, { a: 2 }]);
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.status, error.message, error.body], [500, "terminated", undefined]);
    assert.match(error.requestId, UUID);
  });
}

test("a last event without its blank line is lost", async () => {
  const input = { events: [{ a: 1 }], end: "no_blank_line" };
  const { events, result } = await whole(await fal.stream("emulator/events", { input }));
  assert.deepEqual([events, result], [[{ a: 1 }], { a: 1 }]);
});

test("an error answer of the edge is told once: streams aren't retried", async () => {
  await scenario("edge_page", { operation: "stream", status: 503 });
  const { error } = await whole(await fal.stream("fal-ai/any-llm", { input: { prompt: "hello" } }));
  assert.ok(error instanceof ApiError);
  assert.deepEqual(
    [error.status, error.message, error.body, error.requestId],
    [503, "HTTP 503: Service Unavailable", undefined, ""],
  );
  assert.equal((await evidence({ operation: "stream" })).length, 1);
});

test("a stream that is aborted ends with its last event, and its connection closes", async () => {
  const input = { events: [{ a: 1 }], end: "hang" };
  const stream = await fal.stream("emulator/events", { input });
  stream.on("data", () => stream.abort());
  assert.deepEqual(await stream.done(), { a: 1 });
  const [{ outcome }] = await ended({ operation: "stream" });
  assert.equal(outcome, "client_closed");
});
