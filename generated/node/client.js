/** Makes a typed client over @grpc/grpc-js from the service's description. */
import { readFileSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { pipeline, Readable } from "node:stream";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials as channelCredentials, Metadata, status } from "@grpc/grpc-js";
import { FalService } from "./gen/falrpc/v1/fal_service_pb.js";
import { MENDED } from "./mended.js";

const CHUNK_BYTES = 256 * 1024;
const DEFAULTS = {
  "grpc.service_config": readFileSync(new URL("service_config.json", import.meta.url), "utf8"),
  // Else a TXT record of the target's name could replace it, and have paid calls repeated.
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_retries": 1,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.max_receive_message_length": 64 * 1024 * 1024,
  "grpc.max_send_message_length": 64 * 1024 * 1024,
  [MENDED]: 1,
};

export function connect(target, { token, credentials, options } = {}) {
  // grpc-js would show it in an error of each call.
  if (token && !/^[!-~]+$/.test(token)) throw new TypeError("falrpc: a token is printable ASCII without spaces");
  const isLocal = isLoopback(target);
  credentials ??= isLocal ? channelCredentials.createInsecure() : channelCredentials.createSsl();
  // grpc-js would look for this machine behind the proxy of the environment, too.
  const channel = new Client(target, credentials, { ...DEFAULTS, "grpc.enable_http_proxy": isLocal ? 0 : 1, ...options });
  const methods = FalService.methods.map((method) => [method.localName, caller(channel, token, method)]);
  return { ...Object.fromEntries(methods), close: () => channel.close() };
}

export function upload(client, header, source, options) {
  async function* parts() {
    yield { part: { case: "header", value: header } };
    for await (const bytes of source instanceof Uint8Array ? [source] : source)
      for (let at = 0; at < bytes.length; at += CHUNK_BYTES)
        yield { part: { case: "chunk", value: bytes.subarray(at, at + CHUNK_BYTES) } };
  }
  return client.upload(parts(), options).finally(() => {
    source.once?.("error", () => {}); // of a file that there is not, which nobody has read
    source.destroy?.(); // a file's stream, else left open
  });
}

function caller(channel, token, { name, methodKind, input, output }) {
  const path = `/${FalService.typeName}/${name}`;
  const [make, run] = {
    unary: ["makeUnaryRequest", unary],
    server_streaming: ["makeServerStreamRequest", serverStream],
    client_streaming: ["makeClientStreamRequest", clientStream],
  }[methodKind];
  const encode = (request) => {
    const { buffer, byteOffset, byteLength } = toBinary(input, create(input, request));
    return Buffer.from(buffer, byteOffset, byteLength); // no copy
  };
  return (request, { timeoutSeconds, deadline, metadata, signal } = {}) => {
    if (timeoutSeconds !== undefined) deadline = Date.now() + timeoutSeconds * 1000;
    const headers = new Metadata();
    if (token) headers.set("authorization", `Bearer ${token}`);
    for (const [key, value] of Object.entries(metadata ?? {})) headers.set(key, value);
    const start = (argument, ...callback) => {
      // grpc-js reports such a call as ended and sends it nevertheless.
      if (signal?.aborted) throw failed(unsent("CANCELLED"));
      if (deadline - Date.now() <= 0) throw unsent("DEADLINE_EXCEEDED");
      const coding = [(bytes) => bytes, (bytes) => fromBinary(output, bytes)];
      const call = channel[make](path, ...coding, ...argument, headers, { deadline }, ...callback);
      const now = call.cancel.bind(call);
      call.cancel = () => setImmediate(now); // for the same reason: it must have begun
      signal?.addEventListener("abort", call.cancel, { once: true });
      call.once("status", () => signal?.removeEventListener("abort", call.cancel));
      return call;
    };
    const failed = (error) => (signal?.aborted ? Object.assign(error, { cause: signal.reason }) : error);
    return run(request, encode, start, failed);
  };
}

function unsent(name) {
  const [code, details] = [status[name], "nothing was sent"];
  return Object.assign(new Error(`${code} ${name}: ${details}`), { code, details, metadata: new Metadata() });
}

async function unary(request, encode, start, failed) {
  return new Promise((resolve, reject) => {
    start([encode(request)], (error, response) => (error ? reject(failed(error)) : resolve(response)));
  });
}

function serverStream(request, encode, start, failed) {
  const call = start([encode(request)]);
  let failure; // it may come before anybody reads
  call.on("error", (error) => (failure = failed(error)));
  async function* read() {
    try {
      yield* call;
    } finally {
      call.cancel(); // the reader may have left; no effect after the end
    }
    if (failure) throw failure;
  }
  let messages;
  return {
    cancel: () => call.cancel(),
    [Symbol.asyncIterator]() {
      if (messages) throw new TypeError("falrpc: a stream is read once");
      messages = read();
      const leave = messages.return.bind(messages);
      messages.return = (value) => (call.cancel(), leave(value)); // if it has not begun, it runs nothing
      return messages;
    },
  };
}

async function clientStream(requests, encode, start, failed) {
  async function* messages() {
    for await (const request of requests) yield encode(request);
  }
  return new Promise((resolve, reject) => {
    const call = start([], (error, response) => {
      error ? reject(failed(error)) : resolve(response);
      source.destroy(); // the call may end before all is sent
    });
    const source = Readable.from(messages(), { highWaterMark: 1 });
    pipeline(source, call, (error) => {
      if (!error) return;
      reject(error); // no effect when the call has ended
      call.cancel();
    });
  });
}

function isLoopback(target) {
  const addresses = target.replace(/^(dns|ipv4|ipv6):(\/\/\/)?/, "").toLowerCase().split(",");
  return addresses.every((address) => {
    const host = isIPv6(address) ? address : address.replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1");
    return host === "localhost" || host === "::1" || (isIPv4(host) && host.startsWith("127."));
  });
}
