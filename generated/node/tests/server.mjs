/** A falrpc of this process: its methods do what a test says. */
import { once } from "node:events";
import { createConnection, createServer } from "node:net";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { connect } from "falrpc";
import { ErrorInfoSchema } from "falrpc/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "falrpc/gen/google/rpc/status_pb.js";
import { FalService } from "falrpc/v1";

/** Serves with these handlers of grpc-js, and has a client of it; both end with the test. */
export async function serve(test, handlers, { clientOptions = {}, serverOptions = {} } = {}) {
  const server = new Server({ "grpc.max_receive_message_length": -1, ...serverOptions });
  const methods = FalService.methods.filter(({ localName }) => handlers[localName]);
  server.addService(Object.fromEntries(methods.map((method) => [method.localName, definition(method)])), handlers);
  const port = await new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const client = connect(`127.0.0.1:${port}`, clientOptions);
  test.after(() => {
    client.close();
    server.forceShutdown();
  });
  return { client, port };
}

function definition({ name, methodKind, input, output }) {
  const encode = (schema) => (value) => Buffer.from(toBinary(schema, create(schema, value)));
  const decode = (schema) => (bytes) => fromBinary(schema, bytes);
  return {
    path: `/${FalService.typeName}/${name}`,
    requestStream: methodKind === "client_streaming",
    responseStream: methodKind === "server_streaming",
    requestSerialize: encode(input),
    requestDeserialize: decode(input),
    responseSerialize: encode(output),
    responseDeserialize: decode(output),
  };
}

/** A failure as falrpc makes it: with an ErrorInfo, unless `info` is null, and other details. */
export function failure(code, { info = {}, details = [], message = "it failed" } = {}) {
  const all = info ? [[ErrorInfoSchema, { reason: "SERVER_DRAINING", domain: "falrpc", ...info }], ...details] : details;
  const packed = all.map(([schema, value]) => anyPack(schema, create(schema, value)));
  const metadata = new Metadata();
  if (packed.length > 0) {
    const bytes = toBinary(StatusSchema, create(StatusSchema, { code, message, details: packed }));
    metadata.set("grpc-status-details-bin", Buffer.from(bytes));
  }
  return { code, details: message, metadata };
}

export const unavailable = () => failure(status.UNAVAILABLE);
export const handle = { endpointId: "a/b", requestId: "r" };

/**
 * Serves like `serve`, and writes down the frames that the client sends: `{ type, flags }`, in their order. While `line`
 * is silent, the client gets nothing.
 */
export async function overheard(test, handlers, options = {}) {
  const { port } = await serve(test, handlers);
  const frames = [];
  const line = { isSilent: false };
  const proxy = createServer((socket) => {
    const onward = createConnection(port, "127.0.0.1");
    let rest = Buffer.alloc(0);
    let skip = 24; // the preface
    socket.on("data", (bytes) => {
      rest = Buffer.concat([rest, bytes]);
      for (;;) {
        const gone = Math.min(skip, rest.length);
        [rest, skip] = [rest.subarray(gone), skip - gone];
        if (rest.length < 9) break;
        frames.push({ type: rest[3], flags: rest[4] });
        skip = 9 + rest.readUIntBE(0, 3);
      }
    });
    socket.pipe(onward);
    onward.on("data", (bytes) => line.isSilent || socket.write(bytes));
    for (const end of [socket, onward]) end.on("error", () => {}).on("close", () => (socket.destroy(), onward.destroy()));
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  const client = connect(`127.0.0.1:${proxy.address().port}`, { options });
  test.after(() => (client.close(), proxy.close()));
  return { client, frames, line };
}
