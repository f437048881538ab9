/** Turns values into inputs and outputs into values, by their JSON form. */
import { create } from "@bufbuild/protobuf";
import { parse, stringify } from "lossless-json";
import { InputSchema } from "./gen/falrpc/v1/payload_pb.js";

const isSafe = (text) => !/^-?\d+$/.test(text) || Number.isSafeInteger(Number(text));
const parseNumber = (text) => (isSafe(text) ? Number(text) : BigInt(text));

export function input(value) {
  const json = stringify(value, (key, part) => {
    if (typeof part === "number" && !Number.isFinite(part)) throw new TypeError(`falrpc: input: ${key} is ${part}`);
    return part;
  });
  if (json === undefined) throw new TypeError("falrpc: input: the value has no JSON form");
  return create(InputSchema, { value: { case: "json", value: json } });
}

export function decode(output) {
  const { case: kind, value } = output?.value ?? {};
  if (kind !== "json") throw new TypeError(`falrpc: the output is no JSON but "${value?.contentType ?? ""}"`);
  // JSON.parse is quicker, but rounds integers from 16 digits on.
  if (!/\d{16}/.test(value)) return JSON.parse(value);
  return parse(value, null, { parseNumber, onDuplicateKey: ({ newValue }) => newValue });
}
