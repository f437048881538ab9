// Sends connections to fal's hosts to the emulator, and refuses every other host but loopback.
//
// fal's client hard-codes its hosts and https (docs/fal-http-api.md §1), so the connection is the
// only place to turn: the TLS handshake keeps fal's name, and with it the check of the certificate
// (NODE_EXTRA_CA_CERTS names the emulator's authority). Nothing in the client is touched.
//
// Load it first: node --import ./redirect.mjs …   It reads TLS_PORT, the emulator's port for https.

import net from "node:net";
import tls from "node:tls";

const FAL_HOSTS = new Set(["fal.run", "queue.fal.run", "rest.fal.ai", "v3.fal.media", "v3b.fal.media"]);
const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);
const EMULATOR = { host: "127.0.0.1", port: Number(process.env.TLS_PORT) };

if (!EMULATOR.port) {
  throw new Error("TLS_PORT must be the emulator's port for https");
}

const connectTls = tls.connect;

// undici, which is inside Node's fetch, looks this function up for every connection and gives it one object.
tls.connect = (options, ...rest) => {
  if (FAL_HOSTS.has(options.host)) {
    return connectTls({ servername: options.host, ...options, ...EMULATOR }, ...rest);
  }
  return connectTls(options, ...rest);
};

// Every TCP connection ends up here, TLS or not: the second line of defence is the only complete one.
const connectSocket = net.Socket.prototype.connect;

net.Socket.prototype.connect = function connect(...args) {
  const [options] = Array.isArray(args[0]) ? args[0] : args;
  if (options?.path === undefined && !LOOPBACK.has(options?.host)) {
    throw new Error(`no network beyond loopback: ${options?.host}`);
  }
  return connectSocket.apply(this, args);
};
