// What the client sends again, and how often: docs/fal-http-api.md §6.5, §7.2, §7.6, §16.2.
//
// Its pauses can't be changed (0.5 s or 1 s, doubled each time), so the tests run side by side. Each has
// an endpoint of its own: scenarios and evidence are told apart by that.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { ApiError } from "@fal-ai/client";

import {
  download,
  ended,
  evidence,
  fal,
  rejection,
  reset,
  scenario,
  submitted,
  untilStatus,
} from "./emulator.mjs";

before(reset);

async function count(operation, endpoint) {
  return (await evidence({ operation, endpoint })).length;
}

describe("retries", { concurrency: true }, () => {
  test("a submit whose connection closes without an answer is sent four times in all", async () => {
    await scenario("close_after_body", { operation: "submit", endpoint: "emulator/echo", times: null });
    const error = await rejection(fal.queue.submit("emulator/echo", { input: { a: 1 } }));
    assert.deepEqual([error.name, error.message], ["TypeError", "fetch failed"]);
    const seen = await ended({ operation: "submit", endpoint: "emulator/echo" });
    assert.deepEqual(
      seen.map(({ outcome }) => outcome),
      ["cut", "cut", "cut", "cut"],
    );
    assert.equal(new Set(seen.map((record) => record.body_sha256)).size, 1);
  });

  test("a submit whose answer is lost is sent again: fal then has two requests", async () => {
    await scenario("cut_body", { operation: "submit", endpoint: "emulator/logs", after_bytes: 20 });
    const requestId = await submitted("emulator/logs", { count: 0 });
    const seen = await ended({ operation: "submit", endpoint: "emulator/logs" });
    assert.deepEqual(
      seen.map(({ status, outcome }) => [status, outcome]),
      [
        [200, "cut"],
        [200, "answered"],
      ],
    );
    assert.equal((await untilStatus("emulator/logs", requestId, "COMPLETED")).status, "COMPLETED");
  });

  test("a run whose connection is reset is sent four times in all", async () => {
    await scenario("reset_before_body", { operation: "run", endpoint: "emulator/sleep", times: null });
    const error = await rejection(fal.run("emulator/sleep", { input: { seconds: 0 } }));
    // What a reset under TLS looks like depends on what is read first.
    assert.ok(["ECONNRESET", "UND_ERR_SOCKET"].includes(error.cause.code), error.cause.code);
    assert.equal(await count("run", "emulator/sleep"), 4);
  });

  test("a run that meets the edge's page once has its answer the second time", async () => {
    await scenario("edge_page", { operation: "run", endpoint: "emulator/blob", status: 503 });
    const { data } = await fal.run("emulator/blob", { input: { bytes: 30 } });
    assert.equal(data.blob.length, 19);
    assert.equal(await count("run", "emulator/blob"), 2);
  });

  test("a run is sent four times when the platform says 503, once when an app says 500", async () => {
    await scenario("fail", {
      operation: "run",
      endpoint: "fal-ai/esrgan",
      kind: "runner_disconnected",
      times: null,
    });
    await scenario("fail", { operation: "run", endpoint: "fal-ai/flux/dev", kind: "unhandled_exception" });
    const input = { prompt: "a cat" };
    const [unusable, broken] = await Promise.all([
      rejection(fal.run("fal-ai/esrgan", { input })),
      rejection(fal.run("fal-ai/flux/dev", { input })),
    ]);
    assert.deepEqual([unusable.status, broken.status], [503, 500]);
    assert.equal(await count("run", "fal-ai/esrgan"), 4);
    assert.equal(await count("run", "fal-ai/flux/dev"), 1);
  });

  test("a 504 by the user's own start timeout is not sent again, another one is", async () => {
    const endpoints = { user_start_timeout: "emulator/stubborn", startup_timeout: "emulator/cancellable" };
    for (const [kind, endpoint] of Object.entries(endpoints)) {
      await scenario("fail", { operation: "run", endpoint, kind });
    }
    const input = { seconds: 0 };
    const [error] = await Promise.all([
      rejection(fal.run(endpoints.user_start_timeout, { input, startTimeout: 2 })),
      fal.run(endpoints.startup_timeout, { input }),
    ]);
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.status, error.isUserTimeout], [504, true]);
    assert.equal(await count("run", endpoints.user_start_timeout), 1);
    assert.equal(await count("run", endpoints.startup_timeout), 2);
  });

  test("a failed outcome of status 503 is fetched four times, although it stays what it is", async () => {
    const requestId = await submitted("emulator/fail", { error_type: "runner_disconnected", seconds: 0 });
    const status = await untilStatus("emulator/fail", requestId, "COMPLETED");
    assert.equal(status.error_type, "runner_disconnected");
    const error = await rejection(fal.queue.result("emulator/fail", { requestId }));
    assert.deepEqual([error.status, error.body.error_type], [503, "runner_disconnected"]);
    assert.equal(error.requestId, requestId);
    assert.equal(await count("result", "emulator/fail"), 4);
  });

  test("a status that fails with 500 is asked for again, a result is not", async () => {
    const endpoint = "fal-ai/any-llm";
    const requestId = await submitted(endpoint, { prompt: "hello" });
    await scenario("fail", { operation: "status", endpoint, kind: "internal_error" });
    await scenario("fail", { operation: "result", endpoint, kind: "internal_error" });
    const { status } = await fal.queue.status(endpoint, { requestId });
    assert.equal(status, "COMPLETED");
    assert.equal(await count("status", endpoint), 2);
    const error = await rejection(fal.queue.result(endpoint, { requestId }));
    assert.equal(error.status, 500);
    assert.equal(await count("result", endpoint), 1);
  });

  test("an upload is announced again when that failed once", async () => {
    await scenario("edge_page", { operation: "upload_initiate", status: 504 });
    const url = await fal.storage.upload(new Blob(["x"], { type: "text/plain" }));
    assert.equal((await download(url)).bytes.toString(), "x");
    assert.equal((await evidence({ operation: "upload_initiate" })).length, 2);
  });
});
