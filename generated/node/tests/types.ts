/** A program that the type checker must accept, and lines that it must refuse. */
import { connect, credentials, decode, detail, fieldViolations, input, retryAfter, status, upload } from "falrpc";
import type { FalClient } from "falrpc";
import { QuotaFailureSchema } from "falrpc/gen/google/rpc/error_details_pb.js";
import { RequestState, RunRequestSchema } from "falrpc/v1";
import type { RunResponse, StreamWorkflowResponse } from "falrpc/v1";
import { create } from "@bufbuild/protobuf";

const client: FalClient = connect("localhost:1", { token: "t", credentials: credentials.createSsl() });

export async function calls(file: AsyncIterable<Uint8Array>): Promise<string> {
  const { url, size } = await upload(client, { fileName: "a", size: 3n }, file, { timeoutSeconds: 1 });
  const answer: RunResponse = await client.run({ endpointId: "a/b", input: input({ image: url, size }) });
  await client.run(create(RunRequestSchema, { endpointId: "a/b" }), { deadline: new Date() });
  const { image } = decode<{ image: { url: string } }>(answer.output);
  for await (const { kind } of client.subscribe({ target: { case: "submit", value: { endpointId: "a/b" } } })) {
    if (kind.case === "status" && kind.value.state === RequestState.IN_QUEUE) return `${kind.value.queuePosition}`;
  }
  const stream = client.streamWorkflow({ endpointId: "a/b" }, { signal: AbortSignal.timeout(1) });
  stream.cancel();
  for await (const event of stream) told(event);
  await client.upload([{ part: { case: "header", value: { fileName: "a" } } }]);
  client.close();
  return image.url;
}

export function told(event: StreamWorkflowResponse): string {
  switch (event.kind.case) {
    case "submit":
      return event.kind.value.nodeId;
    case "otherJson":
      return event.kind.value;
    default:
      return "";
  }
}

export function failed(error: unknown): number | undefined {
  const quota: string[] = detail(error, QuotaFailureSchema)?.violations.map((one) => one.subject) ?? [];
  const fields: string[] = fieldViolations(error).map((one) => one.field);
  return quota.length + fields.length + status.UNAVAILABLE || retryAfter(error);
}

// @ts-expect-error: no such field
await client.run({ endpoint: "a/b" });
// @ts-expect-error: no such method
await client.walk({});
// @ts-expect-error: a stream is no promise
client.stream({ endpointId: "a/b" }).then;
// @ts-expect-error: a file name is text
await upload(client, { fileName: 1 }, new Uint8Array());
// @ts-expect-error: seconds are a number
await client.status({}, { timeoutSeconds: "1" });
