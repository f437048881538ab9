/** Values, inputs and outputs. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { decode, input } from "falrpc";
import { OutputSchema } from "falrpc/v1";

const output = (json) => create(OutputSchema, { value: { case: "json", value: json } });
const text = (value) => input(value).value.value;

test("integers of any size survive, both ways", () => {
  const json = '{"seed":15860307465884635512,"low":-9223372036854775808,"long":123456789012345678901234567890}';
  const value = decode(output(json));
  assert.deepEqual(value, { seed: 15860307465884635512n, low: -(2n ** 63n), long: 123456789012345678901234567890n });
  assert.equal(text(value), json);
});

test("what a number can hold is a number", () => {
  const values = [0, -1, 1.5, 1000, 9007199254740991, -9007199254740991, 0.1234567890123456789, 1e300];
  assert.deepEqual(decode(output("[0,-1,1.5,1e3,9007199254740991,-9007199254740991,0.1234567890123456789,1e300]")), values);
  assert.equal(typeof decode(output("9007199254740992")), "bigint");
});

test("long digits in a text change nothing", () => {
  const json = '{"id":"15860307465884635512","__proto__":{"a":1},"n":1,"n":2,"t":"é\\ud83d\\ude00\\n"}';
  const other = decode(output(json));
  assert.deepEqual(other, JSON.parse(json));
  assert.equal(other.a, undefined);
});

test("any JSON is decoded", () => {
  for (const value of [null, true, "text", [1, "a"], {}]) assert.deepEqual(decode(output(JSON.stringify(value))), value);
});

test("an output that is no JSON is refused with its type", () => {
  const binary = create(OutputSchema, { value: { case: "binary", value: { contentType: "image/png" } } });
  assert.throws(() => decode(binary), { name: "TypeError", message: /image\/png/ });
  assert.throws(() => decode(undefined), TypeError);
  assert.throws(() => decode(output('{"cut":')), SyntaxError);
});

test("an input is the value's JSON, as it is", () => {
  assert.equal(text({ a: "<&>", at: new Date(0), none: undefined }), '{"a":"<&>","at":"1970-01-01T00:00:00.000Z"}');
});

test("a value without a JSON form is refused", () => {
  for (const value of [undefined, () => {}, { a: NaN }, [Infinity]]) assert.throws(() => input(value), TypeError);
  const own = {};
  own.own = own;
  assert.throws(() => input(own), RangeError);
});
