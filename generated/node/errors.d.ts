import type { DescMessage, MessageShape } from "@bufbuild/protobuf";

import type { BadRequest_FieldViolation } from "./gen/google/rpc/error_details_pb.js";

/**
 * Says whether the same call may be made again: nothing of it was accepted, or it only read.
 *
 * Only falrpc's own word counts: a status that a proxy or a library made promises nothing.
 */
export function safeToRepeat(error: unknown): boolean;

/** The error's reason as docs/errors.md lists it; empty when the status is not falrpc's. */
export function reason(error: unknown): string;

/** What falrpc tells besides: `delivery`, `request_id`, `http_status` and others. */
export function metadata(error: unknown): Record<string, string>;

/** How many seconds to wait before the same call may succeed; undefined when nothing is known of that. */
export function retryAfter(error: unknown): number | undefined;

/** The refused fields of the request, with fal's own paths below `input`. */
export function fieldViolations(error: unknown): BadRequest_FieldViolation[];

/** The error's detail of a type in `falrpc/gen/google/rpc/error_details_pb.js`, such as `QuotaFailureSchema`. */
export function detail<D extends DescMessage>(error: unknown, schema: D): MessageShape<D> | undefined;
