/**
 * The words of the page: `t("key", {n: 3})`. English is the type of the other languages: a message
 * that is missing there, or that has other placeholders, fails `tsc`.
 */

import { useSyncExternalStore } from "react";
import { en } from "./messages/en";
import { hash } from "./hash";
import { Store } from "./store";

export type Language = "en" | "zh" | "ru";
export const LANGUAGES: Readonly<Record<Language, string>> = {
  en: "English",
  zh: "简体中文",
  ru: "Русский",
};

type Forms = Partial<Record<Intl.LDMLPluralRule, string>> & { readonly other: string };
type Catalog = typeof en;
export type Key = keyof Catalog;
/** Another language: the same keys; what counts in English may count in other forms. */
export type Translation = {
  readonly [K in Key]: Catalog[K] extends string ? string : Forms;
};

type InText<S> = S extends `${string}{${infer Name}}${infer Rest}` ? Name | InText<Rest> : never;
type Placeholders<M> = M extends string
  ? InText<M>
  : M extends { readonly other: infer Other }
    ? InText<Other> | "n"
    : never;
type Values<K extends Key> = Readonly<Record<Placeholders<Catalog[K]>, string | number>>;
type Same<T extends Translation> = {
  readonly [K in Key]: [Placeholders<T[K]>] extends [Placeholders<Catalog[K]>]
    ? [Placeholders<Catalog[K]>] extends [Placeholders<T[K]>]
      ? T[K]
      : never
    : never;
};

/** Declare the messages of another language, and check their placeholders. */
export function translation<const T extends Translation>(messages: T & Same<T>): Translation {
  return messages as unknown as Translation;
}

/** The messages of a built translation, whose values are in the order of the English keys. */
export function ofValues(values: readonly (string | Forms)[]): Translation {
  return ofKeys(Object.keys(en), values) as Translation;
}

export function ofKeys<Value>(keys: readonly string[], values: readonly Value[]): object {
  return Object.fromEntries(keys.map((key, at) => [key, values[at]]));
}

const KEY = "dsk-language";
/** English text of the server, perhaps with placeholders -> its translation. As built, one without
 * placeholders is there by its hash. */
export type ServerTexts = Readonly<Record<string, string>>;
type Loader = () => Promise<readonly [Translation, ServerTexts]>;
const LOADERS: Readonly<Record<Exclude<Language, "en">, Loader>> = {
  zh: async () => import("./messages/zh").then(({ zh, server }) => [zh, server] as const),
  ru: async () => import("./messages/ru").then(({ ru, server }) => [ru, server] as const),
};

interface State {
  readonly language: Language;
  readonly messages: Readonly<Record<Key, string | Forms>>;
  readonly server: ServerTexts;
}

const store = new Store<State>({ language: "en", messages: en, server: {} });

/** Start with the language that was chosen, else with the browser's. */
export async function startLanguage(): Promise<void> {
  await loadLanguage(storedLanguage() ?? preferredLanguage(navigator.languages));
}

export async function chooseLanguage(language: Language): Promise<void> {
  try {
    localStorage.setItem(KEY, language);
  } catch {
    // Without local storage the choice lasts until the page is closed.
  }
  await loadLanguage(language);
}

async function loadLanguage(language: Language): Promise<void> {
  const [messages, server] = language === "en" ? [en, {}] : await LOADERS[language]();
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
  store.set({ language, messages, server });
}

export function preferredLanguage(preferred: readonly string[]): Language {
  for (const tag of preferred) {
    const language = tag.toLowerCase().split("-")[0];
    if (language === "en" || language === "zh" || language === "ru") return language;
  }
  return "en";
}

function storedLanguage(): Language | null {
  try {
    const language = localStorage.getItem(KEY);
    return language !== null && language in LANGUAGES ? (language as Language) : null;
  } catch {
    return null;
  }
}

export function language(): Language {
  return store.get().language;
}

/** Render again when the language changes. */
export function useLanguage(): Language {
  return useSyncExternalStore(store.subscribe, language);
}

/** A message in the page's language. The number `n` chooses the plural form. */
export function t<K extends Key>(
  key: K,
  ...[values]: [Placeholders<Catalog[K]>] extends [never] ? [] : [Values<K>]
): string {
  const { language: current, messages } = store.get();
  return format(messages[key], current, values);
}

/** The message of a key that is put together, e.g. `state.${state}`. */
export function tKey(key: string): string {
  const message = (store.get().messages as Readonly<Record<string, string | Forms>>)[key];
  return message === undefined ? key : format(message, store.get().language);
}

/** A text of the server in the page's language; as it is where that has no translation. */
export function serverText(text: string): string {
  return translated(text, store.get().server);
}

/** Placeholders that stand for a text of the server; the others are names and numbers. */
const NESTED: ReadonlySet<string> = new Set(["problem", "change", "what", "kind"]);

export function translated(text: string, texts: ServerTexts): string {
  for (const key of [text, hash(text)]) {
    if (Object.hasOwn(texts, key)) return texts[key] ?? text;
  }
  for (const [english, translation] of Object.entries(texts)) {
    const values = english.includes("{") ? pattern(english).exec(text)?.groups : undefined;
    if (values) {
      return translation.replace(/\{(\w+)\}/g, (_, name: string) => {
        const value = values[name] ?? "";
        return NESTED.has(name) ? translated(value, texts) : value;
      });
    }
  }
  return text;
}

const patterns = new Map<string, RegExp>();

function pattern(english: string): RegExp {
  const made =
    patterns.get(english) ??
    new RegExp(
      `^${english.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{(\w+)\}/g, "(?<$1>.+?)")}$`,
    );
  patterns.set(english, made);
  return made;
}

export function format(
  message: string | Forms,
  current: Language,
  values: Readonly<Record<string, string | number>> = {},
): string {
  let text = message;
  if (typeof text !== "string") {
    const forms = text;
    text = forms[plurals(current).select(Number(values["n"] ?? 0))] ?? forms.other;
  }
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : (value ?? whole);
  });
}

const formats = new Map<string, Intl.NumberFormat>();
const rules = new Map<Language, Intl.PluralRules>();

function plurals(current: Language): Intl.PluralRules {
  const rule = rules.get(current) ?? new Intl.PluralRules(current);
  rules.set(current, rule);
  return rule;
}

/** A number in the page's language, e.g. 1,560. */
export function number(value: number, options: Intl.NumberFormatOptions = {}): string {
  const key = `${language()} ${JSON.stringify(options)}`;
  const formatter = formats.get(key) ?? new Intl.NumberFormat(language(), options);
  formats.set(key, formatter);
  return formatter.format(value);
}

/** A share from 0 to 1 as "52%". */
export function percent(share: number): string {
  return number(share, { style: "percent" });
}

/** A duration in its two largest units, e.g. "1 h 12 min". */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const units: readonly (readonly [number, string])[] = [
    [Math.floor(whole / 86400), "day"],
    [Math.floor(whole / 3600) % 24, "hour"],
    [Math.floor(whole / 60) % 60, "minute"],
    [whole % 60, "second"],
  ];
  const first = units.findIndex(([count]) => count > 0);
  if (first < 0) return unit(0, "second");
  const parts = units.slice(first, first + 2).filter(([count]) => count > 0);
  // Seconds beside minutes only while there are few minutes.
  if (first === 2 && (units[2]?.[0] ?? 0) >= 5) parts.length = 1;
  return parts.map(([count, name]) => unit(count, name)).join(" ");
}

function unit(count: number, name: string): string {
  return number(count, { style: "unit", unit: name, unitDisplay: "short" });
}

/** A number of bytes, e.g. "9.8 GB" (powers of 1000, as disks and downloads are sold). */
export function bytes(count: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = count;
  let at = 0;
  while (value >= 999.5 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  const digits = at === 0 || value >= 99.5 ? 0 : 1;
  return `${number(value, { maximumFractionDigits: digits })} ${units[at]}`;
}

/** A moment in local time, e.g. "09:14", with the day where it is not today. */
export function moment(seconds: number, now = Date.now()): string {
  const date = new Date(seconds * 1000);
  const sameDay = date.toDateString() === new Date(now).toDateString();
  const options: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat(
    language(),
    sameDay ? options : { ...options, day: "numeric", month: "short" },
  ).format(date);
}
