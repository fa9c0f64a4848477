import { describe, expect, it } from "vitest";
import { joined } from "../src/parts/FolderField";

describe("the path of a folder", () => {
  it("has the separators of the system of the server", () => {
    expect(joined("/home/me", "kitsu")).toBe("/home/me/kitsu");
    expect(joined("/", "home")).toBe("/home");
    expect(joined("C:\\loras", "kitsu")).toBe("C:\\loras\\kitsu");
  });
});
