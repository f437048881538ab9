import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { ChannelCredentials, ChannelOptions } from "@grpc/grpc-js";

import type { FalService, UploadHeaderSchema, UploadResponse } from "./gen/falrpc/v1/fal_service_pb.js";

/** What {@link connect} may be told besides the target. */
export interface ConnectOptions {
  /** A bearer token that is sent with every call, over plaintext, too: printable ASCII without spaces. */
  token?: string;
  /** Instead of TLS with the usual authorities, or of plaintext to this machine: `credentials.createSsl(…)`. */
  credentials?: ChannelCredentials;
  /** Channel options of grpc-js, before ours. */
  options?: ChannelOptions;
}

/** What each call may be told. Set a deadline on every call. */
export interface CallOptions {
  /** How long the call may take. */
  timeoutSeconds?: number;
  /** When it must have ended, as a date or in milliseconds since 1970; without `timeoutSeconds`. */
  deadline?: Date | number;
  /** Metadata to send; names that end with `-bin` have bytes. */
  metadata?: Record<string, string | Buffer>;
  /** Cancels the call. The error is CANCELLED then, and its `cause` the signal's reason. */
  signal?: AbortSignal;
}

/**
 * The messages of a call as they come, to be read once; a second reading throws a TypeError. Leaving the loop cancels
 * the call.
 */
export interface ServerStream<T> extends AsyncIterable<T> {
  /** Ends the call; who reads it gets CANCELLED. */
  cancel(): void;
}

type Method<M> = M extends { methodKind: infer Kind; input: infer I extends DescMessage; output: infer O extends DescMessage }
  ? Kind extends "unary"
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : Kind extends "server_streaming"
      ? (request: MessageInitShape<I>, options?: CallOptions) => ServerStream<MessageShape<O>>
      : (
          requests: AsyncIterable<MessageInitShape<I>> | Iterable<MessageInitShape<I>>,
          options?: CallOptions,
        ) => Promise<MessageShape<O>>
  : never;

type Methods = (typeof FalService)["method"];

/**
 * The methods of the service. Requests are plain objects. A call that fails throws grpc-js' `ServiceError`, with
 * `code`, `details` and `metadata`; `reason`, `fieldViolations` and their like read more from it.
 */
export type FalClient = { [K in keyof Methods]: Method<Methods[K]> } & {
  /** Closes the connections, once calls in flight have ended. */
  close(): void;
};

/**
 * Makes a client; nothing is sent before the first call. Close it after use.
 *
 * It speaks TLS unless the target is this machine or `credentials` are given. Calls are spread over all addresses of
 * the target (`dns:///name:port` for a headless service). Status, StreamStatus, Result and Cancel are repeated on
 * UNAVAILABLE; what costs money never is. A message may have 64 MiB.
 *
 * @throws TypeError when no header can carry the token
 */
export function connect(target: string, options?: ConnectOptions): FalClient;

/**
 * Stores a file of any size and returns where. Of the header only the file name is required; give the size when you
 * know it. The source is read as fast as it is sent on; when it fails, the call is cancelled and its error thrown. A
 * stream of Node's is destroyed when the call ends, however that is.
 */
export function upload(
  client: Pick<FalClient, "upload">,
  header: MessageInitShape<typeof UploadHeaderSchema>,
  source: Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options?: CallOptions,
): Promise<UploadResponse>;
