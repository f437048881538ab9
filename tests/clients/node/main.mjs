// Makes the calls that it reads from standard input, one JSON object a line, and writes what came of each.
import { createInterface } from "node:readline";

import { createRegistry, fromBinary, fromJson, toJson } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { connect, decode, fieldViolations, input, metadata, reason, retryAfter, safeToRepeat, status, upload } from "falrpc";
import { file_google_rpc_error_details } from "falrpc/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "falrpc/gen/google/rpc/status_pb.js";
import { FalService, file_falrpc_v1_fal_service, UploadHeaderSchema } from "falrpc/v1";

const registry = createRegistry(file_falrpc_v1_fal_service, file_google_rpc_error_details);
const client = connect(process.env.FALRPC_ADDRESS, { token: process.env.FALRPC_TOKEN });

/** Makes a call and returns its answers; those before a failure are in `messages` then, too. */
async function call({ method, requests, timeout_seconds: timeoutSeconds, leave_after, bytes }, messages) {
  const how = { timeoutSeconds };
  if (method === "UploadFile") {
    messages.push(await upload(client, fromJson(UploadHeaderSchema, requests[0]), zeros(bytes), how));
    return;
  }
  const { methodKind, localName, input: schema } = FalService.methods.find(({ name }) => name === method);
  const typed = requests.map((request) => fromJson(schema, request));
  if (methodKind === "unary") messages.push(await client[localName](typed[0], how));
  else if (methodKind === "client_streaming") messages.push(await client[localName](typed, how));
  else {
    for await (const message of client[localName](typed[0], how)) {
      messages.push(message);
      if (messages.length === leave_after) break;
    }
  }
}

/** So many zeros in pieces of odd sizes. */
async function* zeros(count) {
  for (let size = 1; count > 0; size = (size * 7 + 3) % 1_000_003) {
    yield new Uint8Array(Math.min(size, count));
    count -= size;
  }
}

function outputOf({ output, kind }) {
  if (output || kind === undefined) return output;
  const { case: name, value } = kind;
  return name === "event" ? value : ["result", "completion", "output"].includes(name) ? value.output : undefined;
}

function decoded(output) {
  try {
    return input(decode(output)).value.value;
  } catch {
    return null;
  }
}

function failure(error) {
  if (!(error.code in status)) throw error;
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  return {
    code: status[error.code],
    message: error.details,
    reason: reason(error),
    metadata: metadata(error),
    violations: fieldViolations(error).map(({ field, description, reason }) => ({ field, description, reason })),
    retry_seconds: retryAfter(error) ?? null,
    safe_to_repeat: safeToRepeat(error),
    details: bytes ? fromBinary(StatusSchema, bytes).details.map((any) => toJson(AnySchema, any, { registry })) : [],
  };
}

async function answer(line) {
  const messages = [];
  let ended = { code: "OK" };
  try {
    await call(JSON.parse(line), messages);
  } catch (error) {
    ended = failure(error);
  }
  return {
    ...ended,
    messages: messages.map((message) => toJson(registry.getMessage(message.$typeName), message)),
    outputs: messages.map(outputOf).filter(Boolean).map(decoded),
  };
}

try {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
  }
} catch (error) {
  console.error(`cannot go on: ${error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
