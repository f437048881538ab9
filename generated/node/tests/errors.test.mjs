/** What a failed call tells. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Metadata } from "@grpc/grpc-js";
import { detail, fieldViolations, metadata, reason, retryAfter, safeToRepeat, status } from "falrpc";
import { BadRequestSchema, HelpSchema, QuotaFailureSchema, RetryInfoSchema } from "falrpc/gen/google/rpc/error_details_pb.js";

import { failure, serve } from "./server.mjs";

async function failed(test, error) {
  const { client } = await serve(test, { run: (call, answer) => answer(error) });
  return client.run({}, { timeoutSeconds: 60 }).catch((error) => error);
}

test("reason, metadata, violations, delay and other details are read from the status", async (t) => {
  const info = { reason: "MISSING", domain: "fal.ai", metadata: { delivery: "FAILED" } };
  const violations = Array.from({ length: 30 }, (_, i) => ({ field: `input.f${i}`, description: "no", reason: "R" }));
  const details = [
    [BadRequestSchema, { fieldViolations: violations }],
    [RetryInfoSchema, { retryDelay: { seconds: 1n, nanos: 500_000_000 } }],
    [QuotaFailureSchema, { violations: [{ subject: "concurrency" }] }],
  ];
  const error = await failed(t, failure(status.INVALID_ARGUMENT, { info, details, message: "input.f0: no" }));
  assert.deepEqual([error.code, error.details], [status.INVALID_ARGUMENT, "input.f0: no"]);
  assert.equal(reason(error), "MISSING");
  assert.deepEqual(metadata(error), { delivery: "FAILED" });
  const told = fieldViolations(error).map(({ field, description, reason }) => ({ field, description, reason }));
  assert.deepEqual(told, violations);
  assert.equal(retryAfter(error), 1.5);
  assert.equal(detail(error, QuotaFailureSchema).violations[0].subject, "concurrency");
  assert.equal(detail(error, HelpSchema), undefined);
});

const promises = [
  ["UNAVAILABLE of falrpc's", failure(status.UNAVAILABLE), true],
  ["UNAVAILABLE of fal's", failure(status.UNAVAILABLE, { info: { domain: "fal.ai" } }), true],
  ["UNAVAILABLE of somebody else's", failure(status.UNAVAILABLE, { info: { domain: "example.com" } }), false],
  ["UNAVAILABLE without ErrorInfo", failure(status.UNAVAILABLE, { info: null }), false],
  ["UNKNOWN of falrpc's", failure(status.UNKNOWN), false],
  ["ABORTED of falrpc's", failure(status.ABORTED), false],
];
for (const [name, error, isSafe] of promises) {
  test(`${name} ${isSafe ? "promises" : "does not promise"} that the call may be repeated`, async (t) => {
    assert.equal(safeToRepeat(await failed(t, error)), isSafe);
  });
}

test("an error that is not falrpc's tells nothing", async (t) => {
  const broken = new Metadata();
  broken.set("grpc-status-details-bin", Buffer.from([255, 255, 255]));
  const errors = [new Error("mine"), undefined, null, "text", { code: 14 }, { code: 14, metadata: broken }];
  errors.push(await failed(t, failure(status.UNAVAILABLE, { info: null })));
  for (const error of errors) {
    assert.deepEqual([reason(error), metadata(error), retryAfter(error)], ["", {}, undefined]);
    assert.deepEqual([fieldViolations(error), safeToRepeat(error)], [[], false]);
  }
});
