// ApiError and ValidationError, for each family of errors: docs/fal-http-api.md §2.3, §6.6, §12.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { ApiError, ValidationError } from "@fal-ai/client";

import {
  client,
  failures,
  fal,
  rejection,
  reset,
  scenario,
  submitted,
  untilStatus,
  UUID,
} from "./emulator.mjs";

// These are told with bodies that aren't JSON, or not whole: the client has a body for none of them.
const WITHOUT_BODY = ["arbitrary_bytes", "empty_body", "error_type_in_header_only"];
const BROKEN = "broken_json";

const REQUEST_ERRORS = {
  request_timeout: 504,
  startup_timeout: 504,
  runner_scheduling_failure: 503,
  runner_connection_timeout: 503,
  runner_disconnected: 503,
  runner_connection_refused: 503,
  runner_connection_error: 503,
  runner_incomplete_response: 502,
  runner_server_error: 500,
  internal_error: 500,
  client_disconnected: 499,
  client_cancelled: 499,
  bad_request: 400,
  concurrent_requests_limit: 429,
};

const LOCKED =
  "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing.";
const MALFORMED = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'.";

before(reset);

test("a refused input is told by the result: a ValidationError with the fields", async () => {
  const requestId = await submitted("fal-ai/fast-sdxl", { num_images: 9 });
  const { status, error_type: errorType } = await untilStatus("fal-ai/fast-sdxl", requestId, "COMPLETED");
  assert.deepEqual([status, errorType], ["COMPLETED", undefined]);
  const error = await rejection(fal.queue.result("fal-ai/fast-sdxl", { requestId }));
  assert.ok(error instanceof ValidationError);
  assert.ok(error instanceof ApiError);
  assert.deepEqual([error.name, error.status, error.requestId], ["ValidationError", 422, requestId]);
  assert.deepEqual(
    error.fieldErrors.map(({ loc, type }) => [loc, type]),
    [
      [["body", "prompt"], "missing"],
      [["body", "num_images"], "less_than_equal"],
    ],
  );
  const [field] = error.getFieldErrors("num_images");
  assert.deepEqual([field.ctx, field.input, typeof field.msg], [{ le: 8 }, 9, "string"]);
  assert.deepEqual(error.getFieldErrors("seed"), []);
});

test("422 with a text is one field error of the body", async () => {
  const error = await rejection(
    fal.run("emulator/answer", { input: { status: 422, body: { detail: "too strange" } } }),
  );
  assert.deepEqual(error.fieldErrors, [{ loc: ["body"], msg: "too strange", type: "value_error" }]);
});

test("the message is the body's, or the reason phrase; never the detail", async () => {
  const input = { status: 400, body: { message: "no such style", detail: "other" } };
  assert.equal((await rejection(fal.run("emulator/answer", { input }))).message, "no such style");
  input.body = { detail: "other" };
  assert.equal((await rejection(fal.run("emulator/answer", { input }))).message, "Bad Request");
});

test("an app's own failure is an ApiError 500", async () => {
  const error = await rejection(fal.run("emulator/fail", { input: { seconds: 0 } }));
  assert.deepEqual([error.status, error.body], [500, { detail: "Internal Server Error" }]);
});

for (const [what, key, status, detail] of [
  ["no key", undefined, 401, "Authentication is required to access this application"],
  ["a malformed key", "no-colon", 401, MALFORMED],
  ["a locked account", "locked:secret", 403, LOCKED],
]) {
  test(`${what} is an ApiError ${status}, on each of fal's hosts`, async () => {
    const stranger = client(key);
    const input = { prompt: "hello" };
    for (const call of [
      () => stranger.run("fal-ai/any-llm", { input }),
      () => stranger.queue.submit("fal-ai/any-llm", { input }),
      () => stranger.storage.upload(new Blob(["x"])),
      async () => (await stranger.stream("fal-ai/any-llm", { input })).done(),
    ]) {
      const error = await rejection(call());
      assert.ok(error instanceof ApiError);
      assert.deepEqual([error.status, error.body], [status, { detail }]);
    }
  });
}

for (const [call, path] of [
  ["run", "https://fal.run"],
  ["submit", "https://queue.fal.run"],
]) {
  test(`an unknown app is an ApiError 404 at ${path}`, async () => {
    const calls = { run: fal.run, submit: fal.queue.submit };
    const error = await rejection(calls[call]("nobody/nothing", { input: { a: 1 } }));
    assert.ok(error instanceof ApiError);
    assert.equal(error.status, 404);
    assert.match(error.body.detail, /nobody\/nothing/);
  });
}

test("an unknown path of an app is told by the app", async () => {
  const error = await rejection(fal.run("fal-ai/fast-sdxl", { input: { a: 1 }, path: "/nothing" }));
  assert.deepEqual([error.status, error.body], [404, { detail: "Path /nothing not found" }]);
});

test("every failure that is known of fal arrives with its status, class and body", async (context) => {
  const known = Object.entries(await failures());
  assert.ok(known.length > 50);
  for (const [kind, status] of known) {
    await context.test(kind, async () => {
      await scenario("fail", { operation: "stream", kind }); // streams are never repeated: that is quick
      const stream = await fal.stream("fal-ai/any-llm", { input: { prompt: "hello" } });
      const error = await rejection(stream.done());
      if (kind === BROKEN) {
        assert.ok(error instanceof SyntaxError);
        return;
      }
      const hasBody = !WITHOUT_BODY.includes(kind);
      assert.equal(error.name, status === 422 ? "ValidationError" : "ApiError");
      assert.deepEqual([error.status, typeof error.body], [status, hasBody ? "object" : "undefined"]);
      assert.match(error.requestId, UUID);
      assert.equal(error.timeoutType, kind === "user_start_timeout" ? "user" : undefined);
      assert.ok(status !== 422 || error.fieldErrors.every(({ loc, msg, type }) => loc && msg && type));
    });
  }
});

// The client repeats some of these, with pauses that can't be changed: side by side that takes 4 s.
describe("errors that may be repeated", { concurrency: true }, () => {
  for (const [type, status] of Object.entries(REQUEST_ERRORS)) {
    test(`${type} is an ApiError ${status} with its type and a request id`, async () => {
      const error = await rejection(fal.run("emulator/fail", { input: { error_type: type, seconds: 0 } }));
      assert.ok(error instanceof ApiError);
      assert.equal(error.name, "ApiError");
      assert.deepEqual([error.status, error.body.error_type], [status, type]);
      assert.equal(typeof error.body.detail, "string");
      assert.equal(error.timeoutType, undefined);
      assert.match(error.requestId, UUID);
    });
  }

  test("over the concurrency limit a run is an ApiError 429", async () => {
    await scenario("concurrency_limit", { limit: 0, endpoint: "emulator/echo" });
    const error = await rejection(fal.run("emulator/echo", { input: { a: 1 } }));
    assert.deepEqual([error.status, error.body.error_type], [429, "concurrent_requests_limit"]);
  });

  test("a page of the edge has neither a body nor a request id", async () => {
    await scenario("edge_page", { operation: "run", endpoint: "emulator/blob", status: 502, times: null });
    const error = await rejection(fal.run("emulator/blob"));
    assert.ok(error instanceof ApiError);
    assert.deepEqual(
      [error.status, error.message, error.body, error.requestId],
      [502, "HTTP 502: Bad Gateway", undefined, ""],
    );
  });
});
