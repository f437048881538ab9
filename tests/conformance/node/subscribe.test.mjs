// fal.subscribe, polling and streaming: docs/fal-http-api.md §7.4, §7.5.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { beforeEach, test } from "node:test";
import { text } from "node:stream/consumers";
import { ValidationError } from "@fal-ai/client";

import { eventually, evidence, fal, rejection, reset, UUID } from "./emulator.mjs";

const STATES = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"];

beforeEach(reset);

for (const mode of ["polling", "streaming"]) {
  test(`subscribe, ${mode}: id, updates in order, then the result`, async () => {
    const told = [];
    const { data, requestId } = await fal.subscribe("fal-ai/fast-sdxl", {
      input: { prompt: "a cat", image_size: "square", seed: 5 },
      mode,
      pollInterval: 5,
      onEnqueue: (id) => told.push(id),
      onQueueUpdate: (update) => told.push(update.status),
    });
    const [id, ...states] = told;
    assert.match(id, UUID);
    assert.equal(requestId, id);
    assert.equal(states.at(-1), "COMPLETED");
    assert.equal(states.filter((state) => state === "COMPLETED").length, 1);
    const places = states.map((state) => STATES.indexOf(state));
    assert.deepEqual(places, places.toSorted());
    assert.equal(data.seed, 5);
    const asked = { polling: "status", streaming: "status_stream" }[mode];
    assert.equal((await evidence({ operation: asked })).length, mode === "polling" ? states.length : 1);
  });

  test(`subscribe, ${mode}: the last update has each log line once`, async () => {
    let last;
    await fal.subscribe("emulator/logs", {
      input: { count: 12 },
      mode,
      logs: true,
      pollInterval: 5,
      onQueueUpdate: (update) => (last = update),
    });
    const lines = Array.from({ length: 12 }, (_, number) => `line ${number}`);
    assert.deepEqual(
      last.logs.map((line) => line.message),
      lines,
    );
  });

  test(`subscribe, ${mode}: a model that refuses its input rejects with a ValidationError`, async () => {
    const error = await rejection(fal.subscribe("fal-ai/fast-sdxl", { input: { seed: 1 }, mode }));
    assert.ok(error instanceof ValidationError);
    assert.deepEqual(error.fieldErrors[0].loc, ["body", "prompt"]);
  });
}

test("a poll that takes too long rejects, and cancels the request", async () => {
  const error = await rejection(
    fal.subscribe("emulator/cancellable", { input: { seconds: 30 }, timeout: 300, pollInterval: 20 }),
  );
  assert.equal(error.message, "Client timed out waiting for the request to complete after 300ms");
  await eventually(
    () => evidence({ operation: "cancel" }),
    ([seen]) => seen?.status === 202,
  );
});

test("a status stream that takes too long throws where nobody can catch it, and cancels", async () => {
  // A process of its own: the client throws in a timer, which would end this one.
  const child = spawn(process.execPath, [...process.execArgv, "streaming_timeout.mjs"]);
  const [said, complaints] = await Promise.all([text(child.stdout), text(child.stderr)]);
  assert.equal(complaints, "");
  assert.deepEqual(JSON.parse(said), {
    uncaught: "Client timed out waiting for the request to complete after 300ms",
    rejected: { status: 400, body: { detail: "Request is still in progress" } },
  });
  const [seen] = await evidence({ operation: "cancel" });
  assert.equal(seen.status, 202);
});
