/** The types that come along. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

test("types.ts is accepted, with its mistakes", async () => {
  const compiler = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  const project = fileURLToPath(new URL("../tsconfig.json", import.meta.url));
  const run = promisify(execFile)(process.execPath, [compiler, "--project", project]);
  await assert.doesNotReject(run.catch(({ stdout }) => Promise.reject(new Error(stdout))));
});
