// fal.queue on requests that wait, run, have ended or never were: docs/fal-http-api.md §7.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { beforeEach, test } from "node:test";
import { ApiError } from "@fal-ai/client";

import {
  advance,
  evidence,
  fal,
  rejection,
  reset,
  scenario,
  submitted,
  untilStatus,
  UUID,
} from "./emulator.mjs";

const UNKNOWN = "00000000-0000-4000-8000-000000000000";

beforeEach(reset);

test("submit answers with the id and the URLs of the request", async () => {
  const answer = await fal.queue.submit("fal-ai/fast-sdxl", { input: { prompt: "a cat" } });
  assert.match(answer.request_id, UUID);
  const url = `https://queue.fal.run/fal-ai/fast-sdxl/requests/${answer.request_id}`;
  assert.equal(answer.status, "IN_QUEUE");
  assert.ok(Number.isInteger(answer.queue_position));
  assert.equal(answer.response_url, url);
  assert.equal(answer.status_url, `${url}/status`);
  assert.equal(answer.cancel_url, `${url}/cancel`);
});

test("options of a submit arrive as headers, priority always", async () => {
  await fal.queue.submit("emulator/echo", { input: { a: 1 } });
  await fal.queue.submit("emulator/echo", {
    input: { a: 1 },
    priority: "low",
    hint: "warm",
    startTimeout: 12.5,
    storageSettings: { expiresIn: "immediate" },
    headers: { "X-Fal-No-Retry": "1" },
  });
  const [plain, full] = (await evidence({ operation: "submit" })).map((seen) => seen.headers);
  assert.equal(plain["x-fal-queue-priority"], "normal");
  assert.equal(full["x-fal-queue-priority"], "low");
  assert.equal(full["x-fal-runner-hint"], "warm");
  assert.equal(full["x-fal-request-timeout"], "12.5");
  assert.equal(full["x-fal-no-retry"], "1");
  assert.deepEqual(JSON.parse(full["x-fal-object-lifecycle-preference"]), {
    expiration_duration_seconds: 60,
  });
});

test("a request with a path or a namespace is asked for by owner and app", async () => {
  for (const [endpoint, base] of [
    ["fal-ai/imageutils/rembg", "fal-ai/imageutils"],
    ["workflows/emulator/failing-step", "workflows/emulator/failing-step"],
  ]) {
    const requestId = await submitted(endpoint, {});
    await untilStatus(endpoint, requestId, "COMPLETED");
    const seen = await evidence({ operation: "status" });
    assert.equal(seen.at(-1).path, `/${base}/requests/${requestId}/status`);
  }
});

test("a request that waits tells its position, and has no result", async () => {
  await scenario("queue", { endpoint: "emulator/echo", delay_seconds: 1_000, position: 0 });
  const requestId = await submitted("emulator/echo", { a: 1 });
  const status = await fal.queue.status("emulator/echo", { requestId });
  assert.deepEqual([status.status, status.queue_position], ["IN_QUEUE", 0]);
  assert.equal((await evidence({ operation: "status" }))[0].status, 202);
  const error = await rejection(fal.queue.result("emulator/echo", { requestId }));
  assert.ok(error instanceof ApiError);
  assert.deepEqual([error.status, error.body], [400, { detail: "Request is still in progress" }]);
  await advance(1_000);
  await untilStatus("emulator/echo", requestId, "COMPLETED");
  assert.deepEqual((await fal.queue.result("emulator/echo", { requestId })).data, { a: 1 });
});

test("a request that waits is cancelled at once, and its result is that", async () => {
  await scenario("queue", { endpoint: "emulator/echo", delay_seconds: 1_000, position: 7 });
  const requestId = await submitted("emulator/echo", { a: 1 });
  assert.equal((await fal.queue.status("emulator/echo", { requestId })).queue_position, 7);
  assert.equal(await fal.queue.cancel("emulator/echo", { requestId }), undefined);
  const [cancelled] = await evidence({ operation: "cancel" });
  assert.deepEqual([cancelled.method, cancelled.status, cancelled.body_bytes], ["PUT", 200, 0]);
  assert.equal((await fal.queue.status("emulator/echo", { requestId })).status, "COMPLETED");
  const error = await rejection(fal.queue.result("emulator/echo", { requestId }));
  assert.deepEqual([error.status, error.body.error_type], [499, "client_cancelled"]);
});

test("a request that waits longer than its start timeout fails with the user's timeout", async () => {
  await scenario("queue", { endpoint: "emulator/echo", delay_seconds: 1_000 });
  const { request_id: requestId } = await fal.queue.submit("emulator/echo", {
    input: { a: 1 },
    startTimeout: 1.1, // seconds, and no less: the client takes nothing below
  });
  await untilStatus("emulator/echo", requestId, "COMPLETED");
  const error = await rejection(fal.queue.result("emulator/echo", { requestId }));
  assert.deepEqual([error.status, error.timeoutType, error.isUserTimeout], [504, "user", true]);
  assert.equal(error.requestId, requestId);
  // Other answers with 504 are fetched again, this one isn't.
  assert.equal((await evidence({ operation: "result" })).length, 1);
});

test("status has logs when they are asked for, null when not", async () => {
  const requestId = await submitted("emulator/logs", { count: 3 });
  const plain = await untilStatus("emulator/logs", requestId, "COMPLETED");
  assert.equal(plain.logs, null);
  assert.equal(typeof plain.metrics.inference_time, "number");
  const full = await fal.queue.status("emulator/logs", { requestId, logs: true });
  assert.deepEqual(
    full.logs.map(({ message, level, source }) => [message, level, source]),
    ["line 0", "line 1", "line 2"].map((message) => [message, "INFO", "USER"]),
  );
  assert.ok(full.logs.every(({ timestamp }) => !Number.isNaN(Date.parse(timestamp))));
});

test("result returns the output with the request's id, as often as it is asked for", async () => {
  const requestId = await submitted("emulator/echo", { a: 1 });
  await untilStatus("emulator/echo", requestId, "COMPLETED");
  for (let time = 0; time < 2; time += 1) {
    const answer = await fal.queue.result("emulator/echo", { requestId });
    assert.deepEqual(answer, { data: { a: 1 }, requestId });
  }
});

test("the result of a request that runs is an ApiError 400", async () => {
  const requestId = await submitted("emulator/cancellable", { seconds: 30 });
  await untilStatus("emulator/cancellable", requestId, "IN_PROGRESS");
  const error = await rejection(fal.queue.result("emulator/cancellable", { requestId }));
  assert.ok(error instanceof ApiError);
  assert.equal(error.status, 400);
  assert.deepEqual(error.body, { detail: "Request is still in progress" });
  assert.match(error.requestId, UUID);
  await fal.queue.cancel("emulator/cancellable", { requestId });
});

test("a running request that is cancelled ends as its app wants: with 499", async () => {
  const requestId = await submitted("emulator/cancellable", { seconds: 30 });
  await untilStatus("emulator/cancellable", requestId, "IN_PROGRESS");
  await fal.queue.cancel("emulator/cancellable", { requestId });
  const [seen] = await evidence({ operation: "cancel" });
  assert.deepEqual([seen.method, seen.status], ["PUT", 202]);
  const ended = await untilStatus("emulator/cancellable", requestId, "COMPLETED");
  assert.equal(ended.error_type, "client_cancelled");
  const error = await rejection(fal.queue.result("emulator/cancellable", { requestId }));
  assert.deepEqual([error.status, error.body.error_type], [499, "client_cancelled"]);
});

test("a running request that is cancelled ends as its app wants: with its output", async () => {
  const requestId = await submitted("emulator/stubborn", { seconds: 0.5 });
  await untilStatus("emulator/stubborn", requestId, "IN_PROGRESS");
  await fal.queue.cancel("emulator/stubborn", { requestId });
  await untilStatus("emulator/stubborn", requestId, "COMPLETED");
  const { data } = await fal.queue.result("emulator/stubborn", { requestId });
  assert.deepEqual(data, { cancelled: true });
});

test("a request that has ended can't be cancelled: ApiError 400", async () => {
  const requestId = await submitted("emulator/echo", { a: 1 });
  await untilStatus("emulator/echo", requestId, "COMPLETED");
  const error = await rejection(fal.queue.cancel("emulator/echo", { requestId }));
  assert.ok(error instanceof ApiError);
  assert.deepEqual([error.status, error.body], [400, { status: "ALREADY_COMPLETED" }]);
});

for (const call of ["status", "result", "cancel"]) {
  test(`${call} of an unknown request is an ApiError 404`, async () => {
    const error = await rejection(fal.queue[call]("emulator/echo", { requestId: UNKNOWN }));
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.status, error.body], [404, { status: "NOT_FOUND" }]);
  });
}

test("a request is unknown to every other app", async () => {
  const requestId = await submitted("emulator/echo", { a: 1 });
  const error = await rejection(fal.queue.status("fal-ai/fast-sdxl", { requestId }));
  assert.equal(error.status, 404);
});

test("the outcome of a request is told to its webhook", async () => {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const webhookUrl = `http://127.0.0.1:${listener.address().port}/told?by=fal&a=%C3%A4`;
  try {
    const input = { a: 1 };
    const { request_id: requestId } = await fal.queue.submit("emulator/echo", { input, webhookUrl });
    const [request, answer] = await once(listener, "request");
    const body = await json(request);
    answer.end();
    assert.deepEqual([request.method, request.url], ["POST", "/told?by=fal&a=%C3%A4"]);
    assert.equal(request.headers["x-fal-webhook-request-id"], requestId);
    assert.deepEqual(
      [body.request_id, body.status, body.payload, body.error],
      [requestId, "OK", input, undefined],
    );
  } finally {
    listener.close();
  }
});
