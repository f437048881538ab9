// Started by subscribe.test.mjs: a subscribe by status stream that takes too long. Prints what happens.

import { fal } from "./emulator.mjs";

const seen = {};
process.on("uncaughtException", (error) => (seen.uncaught = error.message));

try {
  // This model goes on when it is cancelled, so the result that the client asks for is never there.
  await fal.subscribe("emulator/stubborn", { input: { seconds: 5 }, mode: "streaming", timeout: 300 });
} catch (error) {
  seen.rejected = { status: error.status, body: error.body };
}
process.on("exit", () => console.log(JSON.stringify(seen)));
