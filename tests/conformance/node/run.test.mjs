// fal.run: docs/fal-http-api.md §6.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { download, evidence, fal, reset, UUID } from "./emulator.mjs";

beforeEach(reset);

test("run returns the model's output and the request id", async () => {
  const input = { prompt: "ein Bär", seed: 7, nested: { list: [1, 2.5, null, true] } };
  const { data, requestId } = await fal.run("emulator/echo", { input });
  assert.deepEqual(data, input);
  assert.match(requestId, UUID);
});

test("a run without input is a POST without body", async () => {
  const { data } = await fal.run("emulator/blob");
  assert.equal(typeof data.blob, "string");
  const [seen] = await evidence({ operation: "run" });
  assert.deepEqual([seen.method, seen.body_bytes], ["POST", 0]);
});

test("octet streams arrive as an ArrayBuffer", async () => {
  const { data } = await fal.run("emulator/blob", { input: { bytes: 1_000, binary: true } });
  assert.ok(data instanceof ArrayBuffer);
  assert.deepEqual(new Uint8Array(data), new Uint8Array(1_000).fill(0xff));
});

for (const contentType of ["text/html", "text/plain", "application/problem+json"]) {
  test(`${contentType} arrives as text`, async () => {
    const { data } = await fal.run("emulator/answer", {
      input: { content_type: contentType, text: '{"a":1}' },
    });
    assert.equal(data, '{"a":1}');
  });
}

test("a picture can be downloaded from the URL in the output", async () => {
  const { data } = await fal.run("fal-ai/fast-sdxl", {
    input: { prompt: "a cat", seed: 3, image_size: { width: 128, height: 64 } },
  });
  const [image] = data.images;
  assert.equal(new URL(image.url).origin, "https://v3.fal.media");
  assert.deepEqual([image.width, image.height, data.seed], [128, 64, 3]);
  const { contentType, bytes } = await download(image.url);
  assert.deepEqual([contentType, bytes.length], [image.content_type, image.file_size]);
  assert.equal(bytes.toString("latin1", 1, 4), "PNG");
});

test("options of a run arrive as headers", async () => {
  await fal.run("emulator/echo", {
    input: { a: 1 },
    startTimeout: 30,
    storageSettings: { expiresIn: "1h", initialAcl: { default: "forbid" } },
  });
  const [{ headers }] = await evidence({ operation: "run" });
  assert.equal(headers["x-fal-request-timeout"], "30");
  assert.deepEqual(JSON.parse(headers["x-fal-object-lifecycle-preference"]), {
    expiration_duration_seconds: 3_600,
    initial_acl: { default: "forbid" },
  });
});

test("files that come out follow the lifecycle that the run asked for", async () => {
  const { data } = await fal.run("fal-ai/fast-sdxl", {
    input: { prompt: "a secret cat", image_size: "square" },
    storageSettings: { initialAcl: { default: "hide" } },
  });
  assert.equal((await download(data.images[0].url)).status, 404);
});
