import { expect, test } from "vitest";
import { addText, type LogText, MAX_LINES, NO_LOG } from "../src/parts/log";

const all = (...texts: string[]): LogText => texts.reduce(addText, NO_LOG);

test("lines are joined where the text was cut", () => {
  expect(all("step 1\nst", "ep 2\n", "step 3").lines).toEqual(["step 1", "step 2", "step 3"]);
  expect(all("a\r", "\nb").lines).toEqual(["a", "b"]);
  expect(all("a\n", "\n", "b").lines).toEqual(["a", "", "b"]);
});

test("a progress bar is one line, with its last text", () => {
  expect(all("10%\r20%\r30%\ndone\r\n").lines).toEqual(["30%", "done"]);
  expect(all("10%\r", "20%\r", "30%\r").lines).toEqual(["30%"]);
});

test("terminal codes are removed", () => {
  expect(all("\u001b[1;31merror\u001b[0m: \u001b]0;title\u0007no\u0000 disk\n").lines).toEqual([
    "error: no disk",
  ]);
});

test("the newest lines stay", () => {
  const text = Array.from({ length: MAX_LINES + 10 }, (_, at) => `line ${at}\n`).join("");
  const log = addText(NO_LOG, text);
  expect([log.lines.length, log.lines[0], log.dropped]).toEqual([MAX_LINES, "line 10", 10]);
});
