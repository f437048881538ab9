// fal.storage and files in inputs: docs/fal-http-api.md §10.6 to §10.9.

import assert from "node:assert/strict";
import { createHash, randomFillSync } from "node:crypto";
import { beforeEach, test } from "node:test";
import { ApiError } from "@fal-ai/client";

import { advance, download, evidence, fal, rejection, reset, scenario } from "./emulator.mjs";

const MULTIPART_OVER_BYTES = 90 * 1024 * 1024;

beforeEach(reset);

function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}

test("a small file is announced with the key, put without it, and read back", async () => {
  const bytes = randomFillSync(Buffer.alloc(100_000));
  const url = await fal.storage.upload(new File([bytes], "größer als.png", { type: "image/png" }));
  assert.equal(new URL(url).origin, "https://v3.fal.media");
  const back = await download(url);
  assert.deepEqual([back.status, back.contentType, sha256(back.bytes)], [200, "image/png", sha256(bytes)]);
  const [announced] = await evidence({ operation: "upload_initiate" });
  const [put] = await evidence({ operation: "upload_put" });
  assert.equal(announced.headers.host, "rest.fal.ai");
  assert.ok(announced.headers.authorization);
  assert.equal(put.headers.authorization, undefined);
  assert.deepEqual([put.status, put.body_bytes, put.body_sha256], [200, 100_000, sha256(bytes)]);
});

test("a blob without a type is an octet stream, an empty one is a file, too", async () => {
  const back = await download(await fal.storage.upload(new Blob([])));
  assert.deepEqual([back.status, back.contentType, back.bytes.length], [200, "application/octet-stream", 0]);
});

for (const [decision, status] of [["allow", 200], ["forbid", 403], ["hide", 404]]) {
  test(`a file whose ACL says ${decision} answers strangers with ${status}`, async () => {
    const lifecycle = { expiresIn: "1d", initialAcl: { default: decision } };
    const url = await fal.storage.upload(new Blob(["secret"], { type: "text/plain" }), { lifecycle });
    assert.equal((await download(url)).status, status);
    const [{ headers }] = await evidence({ operation: "upload_initiate" });
    assert.deepEqual(JSON.parse(headers["x-fal-object-lifecycle"]), {
      expiration_duration_seconds: 86_400,
      initial_acl: { default: decision },
    });
    assert.equal(headers["x-fal-object-lifecycle-preference"], undefined);
  });
}

test("a file is gone when its time is over", async () => {
  const url = await fal.storage.upload(new Blob(["old"]), { lifecycle: { expiresIn: "1h" } });
  assert.equal((await download(url)).status, 200);
  await advance(3_601);
  assert.equal((await download(url)).status, 404);
});

test("a file over 90 MiB goes in parts and comes back as it was", async () => {
  const bytes = randomFillSync(Buffer.alloc(MULTIPART_OVER_BYTES + 1));
  // One part fails at first: the client tries it again at once.
  await scenario("answer", { operation: "upload_part", status: 500, body: "{}", after: 3 });
  const url = await fal.storage.upload(new File([bytes], "big.bin", { type: "video/mp4" }), {
    lifecycle: { expiresIn: "1h" },
  });
  const back = await download(url);
  assert.deepEqual([back.status, back.contentType, back.bytes.length], [200, "video/mp4", bytes.length]);
  assert.equal(sha256(back.bytes), sha256(bytes));
  const [announced] = await evidence({ operation: "upload_initiate_multipart" });
  assert.deepEqual(JSON.parse(announced.headers["x-fal-object-lifecycle"]), {
    expiration_duration_seconds: 3_600,
  });
  const parts = await evidence({ operation: "upload_part" });
  assert.deepEqual(
    parts.map((part) => [Number(part.path.split("/").at(-1)), part.status]),
    [1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10].map((number, place) => [number, place === 3 ? 500 : 200]),
  );
  assert.equal(parts.at(-1).body_bytes, 1);
  assert.deepEqual((await evidence({ operation: "upload_complete" })).map(({ status }) => status), [200]);
});

test("blobs in an input are uploaded, wherever they are in it", async () => {
  const { data } = await fal.run("emulator/echo", {
    input: {
      image_url: new Blob(["one"], { type: "text/plain" }),
      list: [{ deep: new File(["two"], "two.txt", { type: "text/plain" }) }, "data:text/plain,three"],
      number: 5,
    },
  });
  assert.equal((await download(data.image_url)).bytes.toString(), "one");
  assert.equal((await download(data.list[0].deep)).bytes.toString(), "two");
  assert.deepEqual([data.list[1], data.number], ["data:text/plain,three", 5]);
});

test("a model reads the file that was uploaded for it", async () => {
  const drawn = await fal.run("fal-ai/fast-sdxl", {
    input: { prompt: "a cat", image_size: { width: 96, height: 64 } },
  });
  const { contentType, bytes } = await download(drawn.data.images[0].url);
  const { data } = await fal.subscribe("fal-ai/imageutils/rembg", {
    input: { image_url: new Blob([bytes], { type: contentType }) },
    pollInterval: 5,
  });
  assert.deepEqual([data.image.width, data.image.height], [96, 64]);
});

test("a PUT that is refused is an ApiError, and isn't repeated", async () => {
  await scenario("answer", { operation: "upload_put", status: 403, body: '{"detail":"no"}' });
  const error = await rejection(fal.storage.upload(new Blob(["x"])));
  assert.ok(error instanceof ApiError);
  assert.deepEqual([error.status, error.body], [403, { detail: "no" }]);
  assert.equal((await evidence({ operation: "upload_put" })).length, 1);
});

test("a part that fails three times ends the upload", async () => {
  await scenario("answer", { operation: "upload_part", status: 500, body: "{}", times: 3 });
  const blob = new Blob([Buffer.alloc(MULTIPART_OVER_BYTES + 1)]);
  const error = await rejection(fal.storage.upload(blob));
  assert.equal(error.message, "Part upload failed, retries exhausted");
  assert.equal((await evidence({ operation: "upload_part" })).length, 3);
  assert.equal((await evidence({ operation: "upload_complete" })).length, 0);
});
