// The redirect itself: without it the other tests would prove nothing, or reach fal.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";

import { evidence, fal, rejection, reset } from "./emulator.mjs";

test("the client is the released one", () => {
  const installed = JSON.parse(readFileSync("node_modules/@fal-ai/client/package.json"));
  const asked = JSON.parse(readFileSync("package.json"));
  assert.equal(installed.version, asked.dependencies["@fal-ai/client"]);
});

test("fal's host names reach the emulator, with the client's headers", async () => {
  await reset();
  await fal.run("emulator/echo", { input: { a: 1 } });
  const [seen] = await evidence({ operation: "run" });
  assert.equal(seen.headers.host, "fal.run");
  assert.equal(seen.headers["user-agent"], "@fal-ai/client/1.10.1");
  assert.equal(seen.headers.accept, "application/json");
  assert.equal(seen.headers["content-type"], "application/json");
});

for (const url of ["https://example.com/", "http://192.0.2.1/", "https://api.fal.ai/v1/models"]) {
  test(`no connection leaves for ${url}`, async () => {
    const error = await rejection(fetch(url));
    assert.match(error.cause.message, /no network beyond loopback/);
  });
}

test("the certificate is checked: without the emulator's authority nothing is sent", async () => {
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
  const script = "await fetch('https://fal.run/').catch((error) => console.log(error.cause.code))";
  const options = [...process.execArgv, "--input-type=module", "--eval", script];
  const { stdout } = await promisify(execFile)(process.execPath, options, { env });
  assert.match(stdout, /^(UNABLE_TO|SELF_SIGNED)/);
});
