// What tests ask of the emulator itself, over plain HTTP, and small helpers around fal's client.

import { createFalClient } from "@fal-ai/client";

/** What request ids look like. */
export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const base = `${process.env.EMULATOR_URL}/_emulator`;

async function admin(method, path, body) {
  const answer = await fetch(`${base}/${path}`, { method, body: body && JSON.stringify(body) });
  if (!answer.ok) {
    throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  }
  return answer.status === 204 ? undefined : answer.json();
}

/** A client with a key that the emulator accepts. */
export const fal = client("test-id:test-secret");

/** A client with a key of its own; no key at all when it is undefined. */
export function client(credentials) {
  return createFalClient({ credentials: () => credentials });
}

/** Forgets requests and scenarios of earlier tests. */
export async function reset() {
  await admin("DELETE", "evidence");
  await admin("DELETE", "scenarios");
}

/** Puts a fault in place: `act`, and the requests that it is for. */
export async function scenario(act, fields) {
  await admin("POST", "scenarios", { act, ...fields });
}

/** The records of requests that reached the emulator, by `operation` and `endpoint`. */
export async function evidence(query) {
  return (await admin("GET", `evidence?${new URLSearchParams(query)}`)).requests;
}

/** Moves the emulator's clock forward: whoever waits for a time wakes. */
export async function advance(seconds) {
  await admin("POST", "clock", { advance_seconds: seconds });
}

/** Names of the failures that the emulator can answer with, and their HTTP status. */
export async function failures() {
  return (await admin("GET", "")).failures;
}

/** The value of `look` as soon as `isThere` holds for it. Throws after ten seconds. */
export async function eventually(look, isThere) {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const seen = await look();
    if (isThere(seen)) {
      return seen;
    }
    if (Date.now() > deadline) {
      throw new Error(`still ${JSON.stringify(seen)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Those records, once there are any and none is open: an answer may be here before its record ends. */
export function ended(query) {
  return eventually(
    () => evidence(query),
    (seen) => seen.length > 0 && seen.every(({ outcome }) => outcome !== "open"),
  );
}

/** Waits until a queue request has a state. */
export function untilStatus(endpoint, requestId, state) {
  return eventually(
    () => fal.queue.status(endpoint, { requestId }),
    (seen) => seen.status === state,
  );
}

/** Submits a request and returns its id. */
export async function submitted(endpoint, input) {
  return (await fal.queue.submit(endpoint, { input })).request_id;
}

/** Downloads a file without a credential. */
export async function download(url) {
  const answer = await fetch(url);
  const bytes = Buffer.from(await answer.arrayBuffer());
  return { status: answer.status, contentType: answer.headers.get("content-type"), bytes };
}

/** What a promise is rejected with. Throws when it is not. */
export async function rejection(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`expected a rejection, got ${JSON.stringify(value)}`);
}
