import { expect, test } from "vitest";
import { formatRoute, neighbor, parseRoute } from "../src/studio/route";

test("a route names a tab, and what is shown in it", () => {
  expect(parseRoute("#/train")).toEqual({ tab: "train", rest: "" });
  expect(parseRoute(formatRoute("watch", "out/kitsu 3#%"))).toEqual({
    tab: "watch",
    rest: "out/kitsu 3#%",
  });
});

test("anything else is no route", () => {
  for (const hash of ["", "#", "#/", "#/nothing", "train", "#/Train"]) {
    expect(parseRoute(hash)).toBeNull();
  }
  expect(parseRoute("#/watch/%E0%A4%A")).toEqual({ tab: "watch", rest: "%E0%A4%A" });
});

test("the tabs before and after go around", () => {
  expect(neighbor("images", -1)).toBe("history");
  expect(neighbor("history", 1)).toBe("images");
  expect(neighbor("train", 1)).toBe("watch");
});
