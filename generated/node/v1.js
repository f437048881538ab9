/** The contract: messages, enums and the service's description. */
export * from "./gen/falrpc/v1/error_reason_pb.js";
export * from "./gen/falrpc/v1/fal_service_pb.js";
export * from "./gen/falrpc/v1/payload_pb.js";
export * from "./gen/falrpc/v1/queue_pb.js";
export * from "./gen/falrpc/v1/workflow_pb.js";
