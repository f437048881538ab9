/** Makes a typed client over @grpc/grpc-js from the service's description. */
import { readFileSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { pipeline, Readable } from "node:stream";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials as channelCredentials, Metadata } from "@grpc/grpc-js";

import { FalService } from "./gen/falrpc/v1/fal_service_pb.js";

const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;

const DEFAULTS = {
  "grpc.service_config": readFileSync(new URL("service_config.json", import.meta.url), "utf8"),
  // Else a TXT record of the target's name could replace it, and have paid calls repeated.
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_retries": 1,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
  "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
};

export function connect(target, { token, credentials, options } = {}) {
  const local = isLoopback(target);
  credentials ??= local ? channelCredentials.createInsecure() : channelCredentials.createSsl();
  // grpc-js would look for this machine behind the proxy of the environment, too.
  const proxy = local ? { "grpc.enable_http_proxy": 0 } : {};
  const channel = new Client(target, credentials, { ...DEFAULTS, ...proxy, ...options });
  const client = { close: () => channel.close() };
  for (const method of FalService.methods) {
    const path = `/${FalService.typeName}/${method.name}`;
    const decoded = (bytes) => fromBinary(method.output, bytes);
    const kind = { unary, server_streaming: serverStream, client_streaming: clientStream }[method.methodKind];
    client[method.localName] = (request, { metadata = {}, ...how } = {}) => {
      const headers = new Metadata();
      for (const [key, value] of Object.entries({ ...(token && { authorization: `Bearer ${token}` }), ...metadata }))
        for (const one of [value].flat()) headers.add(key, one);
      const start = (kind, ...rest) => kind.call(channel, path, (bytes) => bytes, decoded, ...rest);
      return kind({ channel, start, headers, input: method.input }, request, how);
    };
  }
  return client;
}

export function upload(client, header, source, how) {
  async function* parts() {
    yield { part: { case: "header", value: header } };
    for await (const bytes of source instanceof Uint8Array ? [source] : source)
      for (let at = 0; at < bytes.length; at += CHUNK_BYTES)
        yield { part: { case: "chunk", value: bytes.subarray(at, at + CHUNK_BYTES) } };
  }
  return client.upload(parts(), how);
}

async function unary({ channel, start, headers, input }, request, how) {
  const bytes = encoded(input, request);
  return new Promise((resolve, reject) => {
    const call = start(channel.makeUnaryRequest, bytes, headers, { deadline: deadline(how) }, (error, response) =>
      error ? reject(caused(error, how.signal)) : resolve(response),
    );
    follow(call, how.signal);
  });
}

function serverStream({ channel, start, headers, input }, request, how) {
  const bytes = encoded(input, request);
  const call = start(channel.makeServerStreamRequest, bytes, headers, { deadline: deadline(how) });
  let failure;
  // Kept, because the failure may come before anybody reads.
  call.on("error", (error) => (failure = caused(error, how.signal)));
  follow(call, how.signal);
  return {
    cancel: () => call.cancel(),
    async *[Symbol.asyncIterator]() {
      try {
        yield* call;
      } finally {
        call.cancel(); // the reader has left; no effect after the end
      }
      if (failure) throw failure;
    },
  };
}

async function clientStream({ channel, start, headers, input }, requests, how) {
  async function* messages() {
    for await (const request of requests) yield encoded(input, request);
  }
  return new Promise((resolve, reject) => {
    const source = Readable.from(messages(), { highWaterMark: 1 });
    const call = start(channel.makeClientStreamRequest, headers, { deadline: deadline(how) }, (error, response) => {
      error ? reject(caused(error, how.signal)) : resolve(response);
      source.destroy(); // the call may end before all is sent
    });
    follow(call, how.signal);
    pipeline(source, call, (error) => {
      if (!error) return;
      call.cancel();
      reject(error);
    });
  });
}

function encoded(schema, request) {
  return Buffer.from(toBinary(schema, create(schema, request)));
}

function deadline({ timeoutSeconds, deadline: end = Infinity }) {
  return timeoutSeconds === undefined ? end : Date.now() + timeoutSeconds * 1000;
}

/** Cancels a call when its signal says so. */
function follow(call, signal) {
  if (!signal) return;
  const cancel = () => call.cancel();
  if (signal.aborted) cancel();
  signal.addEventListener("abort", cancel, { once: true });
  call.once("status", () => signal.removeEventListener("abort", cancel));
}

function caused(error, signal) {
  if (signal?.aborted) error.cause = signal.reason;
  return error;
}

function isLoopback(target) {
  const path = target.replace(/^(dns|ipv4|ipv6):(\/\/[^/]*\/)?/, "");
  return path.split(",").every((address) => {
    const host = isIPv6(address) ? address : address.replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1");
    return host === "localhost" || (isIPv4(host) && host.startsWith("127.")) || (isIPv6(host) && host === "::1");
  });
}
