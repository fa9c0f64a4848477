import { describe, expect, it } from "vitest";
import { type Candidate, kindOf, MAX_FILES, sorted, withoutTop } from "../../src/tabs/images/kinds";

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

describe("the kind of a file", () => {
  it("is that of its content, not of its name", () => {
    expect(kindOf("a.txt", bytes("\xff\xd8\xff\xe0"))).toBe("image");
    expect(kindOf("a.jpg", bytes("MZ\x90\0"))).toBe("other");
    expect(kindOf("a.png", bytes("<html>"))).toBe("other");
    expect(kindOf("a.txt", bytes("1girl, smile"))).toBe("text");
    expect(kindOf("a.txt", bytes("\0\0\0"))).toBe("other");
  });

  it("knows each format of the dataset", () => {
    for (const head of [
      "\x89PNG\r\n\x1a\n",
      "RIFF\0\0\0\0WEBP",
      "\0\0\0\x20ftypavif",
      "GIF89a",
      "BM",
      "II*\0",
      "MM\0*",
    ]) {
      expect(kindOf("a", bytes(head))).toBe("image");
    }
    expect(kindOf("a.wav", bytes("RIFF\0\0\0\0WAVE"))).toBe("other");
    expect(kindOf("a.mp4", bytes("\0\0\0\x20ftypisom"))).toBe("other");
  });
});

describe("what is left out", () => {
  const file = (path: string, change: Partial<Candidate> = {}): Candidate => ({
    path,
    size: 10,
    kind: "image",
    ...change,
  });

  it("is listed with its reason", () => {
    const result = sorted([
      file("set/a.jpg"),
      file("set/a.txt", { kind: "text" }),
      file("set/b.txt", { kind: "text" }),
      file("set/Thumbs.db", { kind: "other" }),
      file("set/.DS_Store", { kind: "other" }),
      file("__MACOSX/set/a.jpg"),
      file("set/c.psd", { kind: "other" }),
      file("set/d.jpg", { kind: "other", size: 0 }),
      file("set/e.png", { size: 65 * 2 ** 20 }),
    ]);
    expect(result.images).toEqual([0]);
    expect(result.captions).toEqual([1]);
    expect(result.leftOut.map(({ index, reason }) => [index, reason])).toEqual([
      [2, "alone"],
      [3, "system"],
      [4, "system"],
      [5, "system"],
      [6, "kind"],
      [7, "empty"],
      [8, "large"],
    ]);
  });

  it("a caption belongs to the image beside it", () => {
    const result = sorted([file("x/a.jpg"), file("y/a.txt", { kind: "text" })]);
    expect(result.captions).toEqual([]);
    expect(sorted([file("A.JPG"), file("a.txt", { kind: "text" })]).captions).toEqual([1]);
  });

  it("sends an archive, and captions that may be of its images", () => {
    expect(kindOf("a.zip", bytes("PK\x03\x04"))).toBe("archive");
    expect(kindOf("a.zip", bytes("GIF89a"))).toBe("image");
    expect(kindOf("a.docx", bytes("PK\x03\x04"))).toBe("other");
    const result = sorted([file("a.zip", { kind: "archive" }), file("b.txt", { kind: "text" })]);
    expect(result.wanted).toEqual([0, 1]);
    expect(result.leftOut).toEqual([]);
  });

  it("never loses a file, also beyond the limit", () => {
    const files = Array.from({ length: MAX_FILES + 3 }, (_, n) => file(`${n}.png`));
    const result = sorted(files);
    expect(result.images).toHaveLength(MAX_FILES);
    expect(result.leftOut.map((item) => item.reason)).toEqual(["many", "many", "many"]);
  });
});

describe("a dropped folder", () => {
  it("becomes the folder of the concept, and keeps the folders in it", () => {
    expect(withoutTop(["set/a.png", "set/b/c.png"])).toEqual({
      top: "set",
      paths: ["a.png", "b/c.png"],
    });
  });

  it("stays as it is beside other files", () => {
    expect(withoutTop(["set/a.png", "b.png"]).paths).toEqual(["set/a.png", "b.png"]);
    expect(withoutTop(["set/a.png", "settle/b.png"]).top).toBe("");
    expect(withoutTop([])).toEqual({ top: "", paths: [] });
  });
});
