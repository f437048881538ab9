/** Reads what a failed call tells: the details of its status. */
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";

export function detail(error, schema) {
  try {
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    for (const any of fromBinary(StatusSchema, bytes).details) {
      const found = anyUnpack(any, schema);
      if (found) return found;
    }
  } catch {
    // No error of a call, or none with details that can be read.
  }
}

function info(error) {
  const found = detail(error, ErrorInfoSchema);
  return ["falrpc", "fal.ai"].includes(found?.domain) ? found : undefined;
}

export const safeToRepeat = (error) => info(error) !== undefined && error.code === status.UNAVAILABLE;
export const reason = (error) => info(error)?.reason ?? "";
export const metadata = (error) => info(error)?.metadata ?? {};
export const fieldViolations = (error) => detail(error, BadRequestSchema)?.fieldViolations ?? [];

export function retryAfter(error) {
  const delay = detail(error, RetryInfoSchema)?.retryDelay;
  return delay && Number(delay.seconds) + delay.nanos / 1e9;
}
