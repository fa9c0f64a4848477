/** The lines of a log: a ring of the newest ones, with terminal codes removed. */

export const MAX_LINES = 5000;

/** ANSI escapes: colors, cursor moves, titles of the terminal's window. */
// eslint-disable-next-line no-control-regex
const ANSI = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g;

export interface LogText {
  readonly lines: readonly string[];
  /** The last line as it came, if its end has not come yet. */
  readonly open: string | null;
  /** How many lines are no longer there. */
  readonly dropped: number;
}

export const NO_LOG: LogText = { lines: [], open: null, dropped: 0 };

/** Add text behind a log. What follows a carriage return replaces its line, as in a terminal. */
export function addText(log: LogText, text: string): LogText {
  if (text === "") return log;
  const whole = ((log.open ?? "") + text).replace(/\r\n/g, "\n");
  const parts = whole.split("\n");
  const open = parts.pop() ?? "";
  const before = log.open === null ? log.lines : log.lines.slice(0, -1);
  const lines = [...before, ...parts.map(readable), ...(open === "" ? [] : [readable(open)])];
  const dropped = Math.max(0, lines.length - MAX_LINES);
  return {
    lines: dropped ? lines.slice(dropped) : lines,
    open: open === "" ? null : open,
    dropped: log.dropped + dropped,
  };
}

/** The last text of a line that was written over itself, without codes. */
function readable(line: string): string {
  const texts = line.split("\r").filter((part) => part !== "");
  return (texts[texts.length - 1] ?? "").replace(ANSI, "").replace(CONTROL, "");
}
