// AbortSignal: the client stops at once and never sends again what was given up on purpose (§6.5).

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { ended, eventually, evidence, fal, rejection, reset } from "./emulator.mjs";

beforeEach(reset);

test("a run that is aborted rejects with an AbortError, and fal sees the client leave", async () => {
  const controller = new AbortController();
  const running = rejection(
    fal.run("emulator/sleep", { input: { seconds: 20 }, abortSignal: controller.signal }),
  );
  await eventually(
    () => evidence({ operation: "run" }),
    (seen) => seen.length === 1,
  );
  controller.abort();
  assert.equal((await running).name, "AbortError");
  assert.deepEqual(
    (await ended({ operation: "run" })).map(({ outcome }) => outcome),
    ["client_closed"],
  );
});

test("a run that times out by its signal isn't sent again", async () => {
  const abortSignal = AbortSignal.timeout(200);
  const error = await rejection(fal.run("emulator/sleep", { input: { seconds: 20 }, abortSignal }));
  assert.equal(error.name, "TimeoutError");
  assert.equal((await ended({ operation: "run" })).length, 1);
});

test("a submit that is aborted beforehand never leaves", async () => {
  const abortSignal = AbortSignal.abort();
  const error = await rejection(fal.queue.submit("emulator/echo", { input: { a: 1 }, abortSignal }));
  assert.equal(error.name, "AbortError");
  assert.deepEqual(await evidence({}), []);
});

test("a subscribe that is aborted stops to poll, and leaves the request alone", async () => {
  const controller = new AbortController();
  const error = await rejection(
    fal.subscribe("emulator/stubborn", {
      input: { seconds: 1 },
      pollInterval: 20,
      abortSignal: controller.signal,
      onQueueUpdate: ({ status }) => status === "IN_PROGRESS" && controller.abort(),
    }),
  );
  assert.equal(error.name, "AbortError");
  assert.deepEqual(await evidence({ operation: "cancel" }), []);
  assert.deepEqual(await evidence({ operation: "result" }), []);
});
