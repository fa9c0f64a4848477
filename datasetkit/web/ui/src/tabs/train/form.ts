/**
 * The training form over dsk.toml: what a field shows and where that comes from, and which change
 * of the file an edit is. A valid edit is saved a moment after the last key; nobody presses save.
 */

import { ApiError } from "../../http";
import { type OptionInfo, type OptionValue, sameValue } from "../../parts/options";
import type { ValueSource } from "../../parts/SchemaField";
import { Store } from "../../store";
import type { Config, Difference, StudioApi, Table } from "../../studio/api";

/** Milliseconds from the last key to the write. */
export const SAVE_DELAY = 400;
const TABLE = "train";

export interface FieldValue {
  readonly value: OptionValue;
  readonly source: ValueSource;
  /** What a reset leads to. */
  readonly base: OptionValue;
}

/** The edits that dsk.toml does not have yet: a value, or undefined for a reset. */
export type Edits = Readonly<Record<string, OptionValue | undefined>>;

export interface FormState {
  readonly config: Config | null;
  readonly edits: Edits;
  readonly saving: boolean;
  /** Names of fields whose text is not a value. */
  readonly invalid: ReadonlySet<string>;
  /** Why the server refused a value, by name. */
  readonly problems: Readonly<Record<string, string>>;
  readonly conflict: readonly Difference[] | null;
}

const INITIAL: FormState = {
  config: null,
  edits: {},
  saving: false,
  invalid: new Set(),
  problems: {},
  conflict: null,
};

/** What an option is without the project's own value: the strongest preset's, else the default. */
export function baseOf(config: Config | null, option: OptionInfo): FieldValue {
  for (const layer of [...(config?.layers ?? [])].reverse()) {
    const value = layer.tables[TABLE]?.[option.name];
    if (value !== undefined) return { value, source: "preset", base: value };
  }
  return { value: option.default, source: "default", base: option.default };
}

export function fieldOf(config: Config | null, edits: Edits, option: OptionInfo): FieldValue {
  const base = baseOf(config, option);
  const stored = config?.tables[TABLE]?.[option.name];
  const value = option.name in edits ? edits[option.name] : stored;
  return value === undefined ? base : { value, source: "file", base: base.value };
}

/** Not part of a preset: what is trained on, and where it goes. */
export const OWN: readonly string[] = [
  "preset",
  "pretrained_model_name_or_path",
  "output_name",
  "output_dir",
];

/** How many options differ from what the presets and defaults say. */
export function countChanged(
  config: Config | null,
  edits: Edits,
  options: readonly OptionInfo[],
): number {
  return options.filter(
    (option) => !OWN.includes(option.name) && isChanged(fieldOf(config, edits, option)),
  ).length;
}

export function isChanged({ value, base }: FieldValue): boolean {
  return !sameValue(value, base);
}

/** The change of dsk.toml that edits are. */
export function changeOf(
  config: Config,
  edits: Edits,
): { readonly set: Table; readonly unset: readonly string[] } {
  const stored = config.tables[TABLE] ?? {};
  const set: Record<string, OptionValue> = {};
  const unset: string[] = [];
  for (const [name, value] of Object.entries(edits)) {
    if (value === undefined || value === null) {
      if (name in stored) unset.push(name);
    } else if (!(name in stored) || !sameValue(stored[name] ?? null, value)) set[name] = value;
  }
  return { set, unset };
}

/** The parts of a shipped preset's name: `sdxl-character-tight@1`. */
export interface PresetName {
  readonly family: string;
  readonly goal: string;
  readonly memory: string;
}

export const NO_PRESET: PresetName = { family: "", goal: "", memory: "" };

export function parsePreset(
  name: OptionValue | undefined,
  parts: {
    readonly families: readonly string[];
    readonly goals: readonly string[];
    readonly memory: readonly string[];
  },
): PresetName {
  const given = typeof name === "string" ? (name.split("@")[0] ?? "") : "";
  for (const family of parts.families) {
    for (const goal of ["", ...parts.goals]) {
      for (const memory of ["", ...parts.memory]) {
        if (given === joined({ family, goal, memory })) return { family, goal, memory };
      }
    }
  }
  return NO_PRESET;
}

/** The name of a preset of these parts; "" without a family. */
export function formatPreset(name: PresetName, version = 1): string {
  return name.family === "" ? "" : `${joined(name)}@${version}`;
}

function joined({ family, goal, memory }: PresetName): string {
  return [family, goal, memory].filter((word) => word !== "").join("-");
}

export class TrainForm {
  readonly store = new Store<FormState>(INITIAL);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private running: Promise<void> = Promise.resolve();

  constructor(
    private readonly api: StudioApi,
    private readonly onError: (error: unknown) => void,
    private readonly onSaved: () => void = () => {},
  ) {}

  async load(): Promise<void> {
    try {
      this.store.set({ config: await this.api.config() });
    } catch (error) {
      this.onError(error);
    }
  }

  /** Load again what another program wrote; unsaved edits stay. */
  async reload(hash?: unknown): Promise<void> {
    const { config, saving } = this.store.get();
    if (saving || (config && hash === config.hash)) return;
    await this.load();
  }

  set(name: string, value: OptionValue): void {
    this.edit(name, value);
  }

  /** Replace the settings of [train] by those of a preset of the user, and write them. ofProject:
   * names of options that stay.
   */
  useOwn(settings: Table, ofProject: ReadonlySet<string>): void {
    for (const name of Object.keys(this.store.get().config?.tables[TABLE] ?? {})) {
      if (!ofProject.has(name) && !(name in settings)) this.reset(name);
    }
    for (const [name, value] of Object.entries(settings)) {
      if (!ofProject.has(name)) this.set(name, value);
    }
    void this.save();
  }

  reset(name: string): void {
    this.edit(name, undefined);
  }

  private edit(name: string, value: OptionValue | undefined): void {
    const { edits, problems } = this.store.get();
    const { [name]: _, ...others } = problems;
    this.store.set({ edits: { ...edits, [name]: value }, problems: others });
    this.setInvalid(name, false);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.save(), SAVE_DELAY);
  }

  setInvalid(name: string, invalid: boolean): void {
    const before = this.store.get().invalid;
    if (before.has(name) === invalid) return;
    const names = new Set(before);
    if (invalid) names.add(name);
    else names.delete(name);
    this.store.set({ invalid: names });
  }

  /** Whether everything that is shown is in dsk.toml. */
  get isSaved(): boolean {
    const { edits, invalid, saving } = this.store.get();
    return !saving && invalid.size === 0 && Object.keys(edits).length === 0;
  }

  /** Write the edits now. One write follows the other. */
  save(): Promise<void> {
    clearTimeout(this.timer);
    this.running = this.running.then(() => this.write());
    return this.running;
  }

  private async write(): Promise<void> {
    const { config, edits, conflict } = this.store.get();
    if (!config || conflict || Object.keys(edits).length === 0) return;
    const { set, unset } = changeOf(config, edits);
    if (Object.keys(set).length === 0 && unset.length === 0) {
      this.store.set({ edits: {} });
      return;
    }
    this.store.set({ saving: true });
    try {
      const saved = await this.api.saveConfig({
        hash: config.hash,
        set: { [TABLE]: set },
        unset: { [TABLE]: unset },
      });
      this.store.set({ config: saved, edits: this.later(edits), problems: {} });
      this.onSaved();
    } catch (error) {
      this.refused(error, edits);
    } finally {
      this.store.set({ saving: false });
    }
  }

  /** The edits that were made while others were written. */
  private later(written: Edits): Edits {
    const now = this.store.get().edits;
    return Object.fromEntries(
      Object.entries(now).filter(
        ([name, value]) => !(name in written) || !sameValue(value ?? null, written[name] ?? null),
      ),
    );
  }

  private refused(error: unknown, edits: Edits): void {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 409) {
      const config = error.body["config"] as Config | undefined;
      const differences = (error.body["differences"] ?? []) as readonly Difference[];
      if (config) this.store.set({ config, conflict: differences });
      // Only other keys were changed: both changes can stay.
      if (config && differences.length === 0) {
        this.store.set({ conflict: null });
        clearTimeout(this.timer);
        this.timer = setTimeout(() => void this.save(), 0);
      }
      return;
    }
    const problems = (error.body["problems"] ?? {}) as Readonly<
      Record<string, { readonly error: string; readonly hint: string }>
    >;
    const byName = Object.fromEntries(
      Object.entries(problems).map(([key, { error: text, hint }]) => [
        key.replace(/^train\./, ""),
        [text, hint].filter(Boolean).join(": "),
      ]),
    );
    const names = Object.keys(edits);
    if (Object.keys(byName).length === 0 && names.length === 1 && error.status < 500) {
      byName[names[0] ?? ""] = [error.message, error.hint].filter(Boolean).join(": ");
    }
    this.store.set({ problems: byName });
    if (Object.keys(byName).length === 0) this.onError(error);
  }

  /** End a conflict: by name, whether the value of the page is written over the file's. */
  resolve(keepMine: Readonly<Record<string, boolean>>): void {
    const { edits } = this.store.get();
    this.store.set({
      conflict: null,
      edits: Object.fromEntries(Object.entries(edits).filter(([name]) => keepMine[name] !== false)),
    });
    void this.save();
  }
}
