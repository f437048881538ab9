/** Reads what a failed call tells: the details of its status. */
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";

const DOMAINS = ["falrpc", "fal.ai"];

export function safeToRepeat(error) {
  return error?.code === status.UNAVAILABLE && info(error) !== undefined;
}

export function reason(error) {
  return info(error)?.reason ?? "";
}

export function metadata(error) {
  return info(error)?.metadata ?? {};
}

export function retryAfter(error) {
  const retry = detail(error, RetryInfoSchema);
  return retry && Number(retry.retryDelay?.seconds ?? 0) + (retry.retryDelay?.nanos ?? 0) / 1e9;
}

export function fieldViolations(error) {
  return detail(error, BadRequestSchema)?.fieldViolations ?? [];
}

export function detail(error, schema) {
  try {
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    for (const any of fromBinary(StatusSchema, bytes).details) {
      const found = anyUnpack(any, schema);
      if (found) return found;
    }
  } catch {
    // No error of a call, or without details that can be read: they promise nothing.
  }
}

function info(error) {
  const found = detail(error, ErrorInfoSchema);
  return DOMAINS.includes(found?.domain) ? found : undefined;
}
