/** Calls fal.ai through falrpc. Messages and enums are in `falrpc/v1`. */
export { credentials, status } from "@grpc/grpc-js";
export { connect, upload } from "./client.js";
export type { CallOptions, ConnectOptions, FalClient, ServerStream } from "./client.js";
export { detail, fieldViolations, metadata, reason, retryAfter, safeToRepeat } from "./errors.js";
export { decode, input } from "./values.js";
