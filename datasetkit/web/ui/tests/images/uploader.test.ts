import { describe, expect, it } from "vitest";
import { ApiError } from "../../src/http";
import type { UploadFile } from "../../src/tabs/images/shapes";
import { upload, type UploadServer } from "../../src/tabs/images/uploader";

const sources = Array.from({ length: 7 }, (_, n) => ({
  path: `${n}.png`,
  file: new Blob(["x".repeat(n + 1)]),
}));
const never = new AbortController().signal;
const noWait = (): Promise<void> => Promise.resolve();

interface Fake extends UploadServer {
  readonly sent: number[];
  ended: number;
  most: number;
}

function server(states: Readonly<Record<number, Partial<UploadFile>>> = {}, failures = 0): Fake {
  let now = 0;
  const left = new Map<number, number>();
  const fake: Fake = {
    sent: [],
    ended: 0,
    most: 0,
    open: async (files) => ({
      id: "u1",
      files: files.map((_, n) => ({ n, state: "wanted" as const, reason: "", ...states[n] })),
    }),
    send: async (_, n) => {
      now += 1;
      fake.most = Math.max(fake.most, now);
      await Promise.resolve();
      now -= 1;
      const failed = left.get(n) ?? 0;
      left.set(n, failed + 1);
      if (failed < failures) throw new ApiError(0, "no answer");
      fake.sent.push(n);
    },
    end: async () => {
      fake.ended += 1;
      return { images: fake.sent.length, left_out: [], entry: 1 };
    },
    cancel: async () => undefined,
  };
  return fake;
}

describe("an upload", () => {
  it("sends each file once, three at a time", async () => {
    const fake = server();
    await upload(fake, sources, () => undefined, never, noWait);
    expect([...fake.sent].sort()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(fake.most).toBe(3);
    expect(fake.ended).toBe(1);
  });

  it("goes on where it stopped, and counts what has arrived", async () => {
    const fake = server({ 0: { state: "arrived" }, 1: { state: "arrived" } });
    const seen: string[] = [];
    const note = (p: { files: number; of: number; bytes: number; ofBytes: number }) =>
      seen.push(`${p.files}/${p.of} ${p.bytes}/${p.ofBytes}`);
    await upload(fake, sources, note, never, noWait);
    expect([...fake.sent].sort()).toEqual([2, 3, 4, 5, 6]);
    expect(seen[0]).toBe("2/7 3/28");
    expect(seen.at(-1)).toBe("7/7 28/28");
  });

  it("tries again while the server does not answer", async () => {
    const fake = server({}, 3);
    await upload(fake, sources, () => undefined, never, noWait);
    expect(fake.sent).toHaveLength(7);
  });

  it("imports nothing when a file does not arrive", async () => {
    const fake = server({}, 99);
    await expect(upload(fake, sources, () => undefined, never, noWait)).rejects.toThrow(ApiError);
    expect(fake.ended).toBe(0);
  });

  it("does not repeat what the server refuses", async () => {
    const fake = server();
    let calls = 0;
    fake.send = async () => {
      calls += 1;
      throw new ApiError(400, "not an image");
    };
    await expect(upload(fake, [sources[0]!], () => undefined, never, noWait)).rejects.toThrow(
      "not an image",
    );
    expect(calls).toBe(1);
  });

  it("tells what the server left out", async () => {
    const fake = server({ 3: { state: "left-out", reason: "not an image" } });
    const result = await upload(fake, sources, () => undefined, never, noWait);
    expect(result.left_out).toEqual([{ name: "3.png", reason: "not an image" }]);
    expect(fake.sent).not.toContain(3);
  });

  it("stops when it is cancelled", async () => {
    const stop = new AbortController();
    const fake = server();
    const cancel = () => stop.abort();
    await expect(upload(fake, sources, cancel, stop.signal, noWait)).rejects.toThrow();
    expect(fake.sent).toEqual([]);
  });
});
