// What falrpc does, from Node.js: uploads a picture, runs models, follows a request, a workflow, and failures.
//
//   npm ci && node main.mjs [picture]
//
// FALRPC_ADDRESS is where falrpc listens; FALRPC_TOKEN the bearer token, if it wants one; FALRPC_CA_FILE the authority
// of its certificate, if it speaks TLS with one of its own.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

import { connect, credentials, decode, fieldViolations, input, reason, retryAfter, status, upload } from "falrpc";
import { RequestState } from "falrpc/v1";

const { FALRPC_ADDRESS, FALRPC_TOKEN: token, FALRPC_CA_FILE } = process.env;
const SDXL = "fal-ai/fast-sdxl";

async function main(path = fileURLToPath(new URL("../photo.jpg", import.meta.url))) {
  const client = connect(FALRPC_ADDRESS || "localhost:50051", {
    token,
    credentials: FALRPC_CA_FILE ? credentials.createSsl(await readFile(FALRPC_CA_FILE)) : undefined,
  });
  try {
    const url = await uploadPicture(client, path);
    await cutOut(client, url);
    await drawAndFollow(client);
    await makeSticker(client);
    await refused(client);
    await queueAndCancel(client);
  } finally {
    client.close();
  }
}

async function uploadPicture(client, path) {
  const bytes = await readFile(path); // of a large file createReadStream(path)
  const header = { fileName: basename(path), size: BigInt(bytes.length) };
  const { url } = await upload(client, header, bytes, { timeoutSeconds: 60 });
  console.log("uploaded  ", url);
  return url;
}

async function cutOut(client, url) {
  const request = { endpointId: "fal-ai/imageutils/rembg", input: input({ image_url: url }) };
  const { output } = await client.run(request, { timeoutSeconds: 60 });
  const { image } = decode(output); // in TypeScript decode<{ image: Image }>(output)
  console.log("cut out   ", `${image.width}x${image.height}`, image.url);
}

async function drawAndFollow(client) {
  // A seed that a number can't hold is a bigint, both ways.
  const submit = { endpointId: SDXL, input: input({ prompt: "a happy robot", seed: 15860307465884635512n }) };
  const request = { target: { case: "submit", value: submit }, includeLogs: true };
  for await (const { kind } of client.subscribe(request, { timeoutSeconds: 300 })) {
    if (kind.case === "accepted") {
      console.log("accepted  ", kind.value.requestId); // keep it: with it the result can be had later, too
    } else if (kind.case === "status") {
      if (kind.value.state === RequestState.IN_QUEUE) console.log("waiting    position", kind.value.queuePosition);
      if (kind.value.state === RequestState.IN_PROGRESS) console.log("running");
    } else if (kind.case === "logs") {
      for (const { message } of kind.value.entries) console.log("log       ", message);
    } else if (kind.case === "result") {
      const { images, seed } = decode(kind.value.output);
      console.log("picture    seed", String(seed), images[0].url);
    }
  }
}

async function makeSticker(client) {
  const request = { endpointId: "workflows/fal-ai/sdxl-sticker", input: input({ prompt: "a happy robot" }) };
  for await (const { kind } of client.streamWorkflow(request, { timeoutSeconds: 300 })) {
    switch (kind.case) {
      case "submit":
        console.log("step      ", kind.value.nodeId, kind.value.appId, "submitted");
        break;
      case "completion":
        console.log("step      ", kind.value.nodeId, "completed");
        break;
      case "error":
        console.log("step      ", kind.value.nodeId, "failed:", kind.value.message);
        break;
      case "output":
        console.log("sticker   ", decode(kind.value.output).image.url);
        break;
    }
  }
}

async function refused(client) {
  try {
    await client.run({ endpointId: SDXL, input: input({ num_images: 99 }) }, { timeoutSeconds: 60 });
  } catch (error) {
    if (error.code !== status.INVALID_ARGUMENT) throw error;
    for (const { field, description } of fieldViolations(error)) console.log("refused   ", `${field}: ${description}`);
  }
}

async function queueAndCancel(client) {
  const request = { endpointId: SDXL, input: input({ prompt: "a cat" }), queue: { maxQueueLength: 1 } };
  try {
    const { handle } = await client.submit(request, { timeoutSeconds: 60 });
    await client.cancel({ handle }, { timeoutSeconds: 60 });
    console.log("queued    ", `${handle.requestId}, cancelled`);
  } catch (error) {
    if (reason(error) !== "QUEUE_TOO_LONG") throw error;
    console.log("quota     ", `${reason(error)}, try again in ${retryAfter(error)}s`);
  }
}

main(process.argv[2]).catch((error) => {
  const code = status[error.code];
  const hint = code === "UNAUTHENTICATED" ? " (set FALRPC_TOKEN)" : "";
  const cause = (error.details ?? error.message)
    .replace(/\n/g, " ")
    .replace(/^.*Last error: (Error: )?/, "") // what grpc-js' balancer says of itself
    .replace(/\.? *Resolution note: *$/, "");
  console.error(`falrpc: ${code ? `${code}: ` : ""}${cause}${hint}`);
  process.exitCode = 1;
});
