/** Options as `api/schema` declares them, and their values as typed text. */

import { number, t } from "../i18n";

/** What `datasetkit.options.declare.describe` says of an option. */
export interface OptionInfo {
  readonly name: string;
  readonly help: string;
  readonly change: string;
  /** The default in words, where the value says little. */
  readonly shown: string;
  readonly group: string;
  readonly unit: string;
  /** Its place among the ten options of the training form. */
  readonly slot: number | null;
  /** Family to its usual range. */
  readonly usual: Readonly<Record<string, readonly [number, number]>>;
  readonly range: readonly [number, number] | null;
  readonly choices: readonly (string | number)[];
  readonly families: readonly string[];
  readonly path: string;
  readonly imports_code: readonly string[];
  readonly literal: boolean;
  readonly needs: string;
  readonly applies: string;
  readonly old_names: readonly string[];
  /** `int`, `float`, `bool`, `str`, `list of str`, `pair of int`, ... */
  readonly types: readonly string[];
  readonly required: boolean;
  readonly default: OptionValue;
}

export type OptionValue = null | boolean | number | string | readonly (number | string)[];

export type Parsed =
  | { readonly ok: true; readonly value: OptionValue }
  | { readonly ok: false; readonly error: string };

/** A value as its field shows it; numbers as they would be typed, without separators. */
export function textOf(value: OptionValue): string {
  if (value === null) return "";
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value === "number") return numberText(value);
  return String(value);
}

/** 0.0001 stays 0.0001, and 0.00001 becomes 1e-5: as people write learning rates. */
export function numberText(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e9) return value.toExponential().replace("e+", "e");
  return String(value);
}

/** The ends of a range in one notation: 3e-5 to 3e-4, but 4 to 32. */
export function rangeText([from, to]: readonly [number, number]): {
  readonly from: string;
  readonly to: string;
} {
  const small = [from, to].some((value) => value !== 0 && Math.abs(value) < 1e-3);
  const text = (value: number) =>
    small && value !== 0 ? value.toExponential().replace("e+", "e") : numberText(value);
  return { from: text(from), to: text(to) };
}

/** Read what was typed. The server checks again; this says at once what is not possible. */
export function parseValue(option: OptionInfo, text: string): Parsed {
  const trimmed = text.trim();
  const nullable = option.default === null;
  if (trimmed === "" && nullable) return { ok: true, value: null };
  if (option.types.length === 1 && option.types[0] === "str") return { ok: true, value: text };
  if (option.types.some((type) => type.startsWith("list of"))) return list(option, trimmed);
  if (option.types.some((type) => type.startsWith("pair of")) && /[,x]/.test(trimmed)) {
    return list(option, trimmed.replaceAll("x", ","));
  }
  if (isNumeric(option)) {
    const parsed = parseNumber(option, trimmed);
    if (parsed.ok || !option.types.includes("str")) return parsed;
  }
  return { ok: true, value: text };
}

function list(option: OptionInfo, text: string): Parsed {
  const parts = text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  const numeric = option.types.some((type) => /of (int|float)/.test(type));
  if (!numeric) return { ok: true, value: parts };
  const values = parts.map((part) => parseNumber(option, part));
  const wrong = values.find((parsed) => !parsed.ok);
  if (wrong) return wrong;
  return { ok: true, value: values.map((parsed) => (parsed.ok ? (parsed.value as number) : 0)) };
}

export function isNumeric(option: OptionInfo): boolean {
  return option.types.some((type) => type === "int" || type === "float");
}

function parseNumber(option: OptionInfo, text: string): Parsed {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) {
    return { ok: false, error: t("field.number") };
  }
  const value = Number(text);
  const whole = !option.types.some((type) => type.includes("float"));
  if (whole && !Number.isInteger(value)) return { ok: false, error: t("field.whole") };
  const [least, most] = option.range ?? [-Infinity, Infinity];
  if (value < least) return { ok: false, error: t("field.least", { value: numberText(least) }) };
  if (value > most) return { ok: false, error: t("field.most", { value: numberText(most) }) };
  return { ok: true, value };
}

export function sameValue(a: OptionValue, b: OptionValue): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** A value in words, e.g. of the default. */
export function valueText(option: OptionInfo, value: OptionValue): string {
  if (value === null || value === "") return option.shown || t("none");
  if (typeof value === "boolean") return t(value ? "on" : "off");
  if (typeof value === "number") {
    return Number.isInteger(value) && Math.abs(value) >= 10_000 ? number(value) : numberText(value);
  }
  if (Array.isArray(value)) return value.length ? value.join(", ") : t("none");
  return String(value);
}

/**
 * The options that a few letters mean, best first: name before help, and the old names of
 * sd-scripts count as names.
 */
export function searchOptions(
  options: readonly OptionInfo[],
  typed: string,
): readonly OptionInfo[] {
  const words = typed
    .toLowerCase()
    .split(/\s+/)
    .map((word) => word.replaceAll(/[_-]/g, " ").trim())
    .filter(Boolean);
  if (words.length === 0) return options;
  const ranked: (readonly [rank: number, at: number, option: OptionInfo])[] = [];
  options.forEach((option, at) => {
    const rank = Math.max(...words.map((word) => rankOf(option, word)));
    if (rank < Infinity) ranked.push([rank, at, option]);
  });
  return ranked.sort(([a, x], [b, y]) => a - b || x - y).map(([, , option]) => option);
}

function rankOf(option: OptionInfo, word: string): number {
  const names = [option.name, ...option.old_names].map((name) =>
    name.toLowerCase().replaceAll(/[_-]/g, " "),
  );
  if (names.some((name) => name.startsWith(word))) return 0;
  if (names.some((name) => name.includes(` ${word}`))) return 1;
  if (names.some((name) => name.includes(word))) return 2;
  const help = `${option.help} ${option.change} ${option.group}`.toLowerCase();
  if (new RegExp(`\\b${word.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&")}`, "u").test(help)) return 3;
  return help.includes(word) ? 4 : Infinity;
}
