import { expect, test } from "vitest";
import { bytes, duration, format, preferredLanguage, t, translated } from "../src/i18n";
import { hash } from "../src/hash";
import { en } from "../src/messages/en";
import { ru, server as ruServer } from "../src/messages/ru";
import { server as zhServer, zh } from "../src/messages/zh";

const placeholders = (message: unknown): string[] =>
  [
    ...new Set(
      (typeof message === "string" ? [message] : Object.values(message as object)).flatMap((text) =>
        [...String(text).matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? ""),
      ),
    ),
  ].sort();

test.each([
  ["zh", zh],
  ["ru", ru],
] as const)("%s has the keys and the placeholders of English", (_, messages) => {
  expect(Object.keys(messages).sort()).toEqual(Object.keys(en).sort());
  for (const key of Object.keys(en) as (keyof typeof en)[]) {
    expect([key, placeholders(messages[key])]).toEqual([key, placeholders(en[key])]);
    expect(messages[key]).not.toBe("");
  }
});

test("Russian has all of its plural forms wherever something is counted", () => {
  for (const message of Object.values(ru)) {
    if (typeof message === "string") continue;
    expect(Object.keys(message).sort()).toEqual(["few", "many", "one", "other"]);
  }
});

test("the number chooses the form", () => {
  const forms = { one: "{n} шаг", few: "{n} шага", many: "{n} шагов", other: "{n} шага" };
  const shown = [1, 2, 5, 21, 1.5].map((n) => format(forms, "ru", { n }));
  expect(shown.map((text) => text.split(" ")[1])).toEqual(["шаг", "шага", "шагов", "шаг", "шага"]);
  expect(t("state.attention", { n: 1 })).toBe("1 needs attention");
  expect(t("state.attention", { n: 1200 })).toBe("1,200 need attention");
});

test("a placeholder without a value stays visible", () => {
  expect(format("{done} of {of}", "en", { done: 3 })).toBe("3 of {of}");
});

test("the first language of the browser that the page has", () => {
  expect(preferredLanguage(["de-CH", "zh-TW", "en"])).toBe("zh");
  expect(preferredLanguage(["de"])).toBe("en");
  expect(preferredLanguage([])).toBe("en");
});

test("durations in two units, sizes in one", () => {
  const texts = [0, 59, 61, 720, 3720, 90_000].map(duration);
  expect(texts).toEqual(["0 sec", "59 sec", "1 min 1 sec", "12 min", "1 hr 2 min", "1 day 1 hr"]);
  expect([0, 999, 1500, 114_000_000, 9.8e9].map(bytes)).toEqual([
    "0 B",
    "999 B",
    "1.5 KB",
    "114 MB",
    "9.8 GB",
  ]);
});

test("both languages have the same texts of the server, with the same placeholders", () => {
  expect(Object.keys(ruServer)).toEqual(Object.keys(zhServer));
  for (const [english, translation] of [...Object.entries(zhServer), ...Object.entries(ruServer)]) {
    expect([english, placeholders(translation)]).toEqual([english, placeholders(english)]);
  }
});

test("a built text of the server is found by its hash", () => {
  const texts = { [hash("same pixels")]: "相同像素" };
  expect(translated("same pixels", texts)).toBe("相同像素");
  expect(translated("other pixels", texts)).toBe("other pixels");
});

test("a text of the server is translated with its values, else shown as it is", () => {
  const texts = {
    "enlarged {n} times for training": "训练时放大 {n} 倍",
    "fewer repeats": "减少重复",
    "{name} (at most): use {change}": "{name}：建议{change}",
  };
  expect(translated("enlarged 1.3 times for training", texts)).toBe("训练时放大 1.3 倍");
  expect(translated("fewer repeats (at most): use fewer repeats", texts)).toBe(
    "fewer repeats：建议减少重复",
  );
  for (const text of ["", "toString", "enlarged", "it is enlarged 2 times for training"]) {
    expect(translated(text, texts)).toBe(text);
  }
});
