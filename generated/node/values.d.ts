import type { Input, Output } from "./gen/falrpc/v1/payload_pb.js";

/**
 * Turns a value into a model's input, by its JSON form. A bigint keeps all its digits.
 *
 * @throws TypeError when the value has no JSON form, or a number in it is not finite; RangeError when it holds itself
 */
export function input(value: unknown): Input;

/**
 * Reads a model's JSON output. Integers that a number can't hold come as bigint, all else as from JSON.parse.
 *
 * @throws TypeError when the output is no JSON; SyntaxError when it is broken
 */
export function decode<T = any>(output: Output | undefined): T;
