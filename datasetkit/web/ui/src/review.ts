/** What the page does: each key and button is one of these functions. They change the state and speak to the server. */

import { type Api, type Applied, type Operation, Refused, type Scope } from "./api";
import { formatTags } from "./captions";
import { joined } from "./filters";
import { Listing, WINDOW } from "./listing";
import { commonAspect } from "./geometry";
import { all, extend, NOTHING, toggle } from "./selection";
import {
  type Bar,
  type Conflict,
  nextScope,
  narrowest,
  type ScopeName,
  START,
  type State,
  type Toast,
} from "./state";
import { Store } from "./store";

/** Milliseconds: a cursor that rests this long on an image wants to know its caption. */
const LOOK = 60;
/** Between two questions whether another program changed something. */
const WATCH = 2000;
/** Images that are asked for at once to show near-duplicates; the server gives no more. */
const MOST_TWINS = 20_000;

export class Review {
  readonly store = new Store<State>(START);
  private queue: Promise<unknown> = Promise.resolve();
  private toasts = 0;
  private asking: {
    list?: AbortController;
    tags?: AbortController;
    image?: AbortController;
    outliers?: AbortController;
  } = {};
  private looking: ReturnType<typeof setTimeout> | undefined;
  /** Done when the grid shows what the filter box says: an edit waits for it, so that it reaches what is seen. */
  private listed: Promise<void> = Promise.resolve();
  /** The images whose outliers are listed. */
  private outliersOf: Scope = { in: "all" };

  constructor(readonly api: Api) {}

  private get state(): State {
    return this.store.get();
  }

  // -- beginning and watching

  async begin(): Promise<void> {
    try {
      const session = await this.api.session();
      this.store.set({
        session,
        version: session.version,
        undo: session.undo,
        redo: session.redo,
        images: session.images,
        fatal: null,
      });
      await Promise.all([this.list(), this.countTags()]);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Ask every two seconds, while the page is seen, what other programs did. */
  watch(): () => void {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible" && !this.state.working && !this.state.fatal)
        void this.catchUp();
    }, WATCH);
    return () => clearInterval(timer);
  }

  async catchUp(): Promise<void> {
    const since = this.state.version;
    try {
      const changes = await this.api.changes(since);
      if (!this.state.online) this.store.set({ online: true });
      if (this.state.working || changes.version <= this.state.version) return;
      const session = await this.api.session();
      if (this.state.working || changes.version <= this.state.version) return;
      this.store.set({
        session,
        version: changes.version,
        images: session.images,
        undo: session.undo,
        redo: session.redo,
      });
      await this.refresh();
      const places = changes.outside.map((id) => this.nameOf(id)).filter((name) => name !== "");
      const parts = [
        changes.outside.length
          ? `${many(changes.outside.length, "caption")} changed: ${few(places)}`
          : "",
        changes.added.length ? `${many(changes.added.length, "image")} came` : "",
        changes.removed.length ? `${many(changes.removed.length, "image")} went` : "",
        changes.reset ? "much changed; everything was read again" : "",
      ].filter((part) => part !== "");
      if (parts.length) this.store.set({ outside: parts });
    } catch (error) {
      if (error instanceof Refused && error.status === 0) this.store.set({ online: false });
      else this.fail(error);
    }
  }

  private fail(error: unknown): void {
    if (error instanceof DOMException && error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) {
      this.store.set({
        fatal: {
          error: "This page belongs to a review that has ended.",
          hint: "Open the address that dsk review printed.",
        },
      });
    } else if (this.state.session === null) {
      this.store.set({ fatal: { error: error.message, hint: error.hint } });
    } else {
      this.toast({ says: error.message, detail: error.hint, kind: "error", undo: false });
    }
  }

  // -- the list of images

  private async list(keep = false): Promise<void> {
    const where = this.state.filter.trim();
    const signal = this.renew("list");
    const offset = keep ? Math.floor(Math.max(0, this.state.cursor) / WINDOW) * WINDOW : 0;
    try {
      let first = await this.api.images(where, offset, WINDOW, signal);
      if (first.id.length === 0 && first.total > 0) {
        first = await this.api.images(
          where,
          Math.floor((first.total - 1) / WINDOW) * WINDOW,
          WINDOW,
          signal,
        );
      }
      const { listing, cursor } = this.state;
      const next = new Listing(this.api, where, first, this.arrived, keep ? listing : null);
      // What stood under the cursor keeps it, although images came or went before it; else the next one gets it.
      const same = keep ? next.placeOf(listing?.at(cursor)?.id ?? -1) : -1;
      const place = same >= 0 ? same : Math.min(keep ? cursor : 0, next.total - 1);
      const aspect = listing === null ? commonAspect(first.w, first.h) : this.state.aspect;
      this.store.set({
        listing: next,
        revision: this.state.revision + 1,
        cursor: place,
        filterProblem: null,
        aspect,
      });
      if (where === "") this.store.set({ images: next.total });
      this.look();
    } catch (error) {
      if (error instanceof Refused && error.status === 400) {
        this.store.set({ filterProblem: { error: error.message, hint: error.hint, at: error.at } });
      } else {
        this.fail(error);
      }
    }
  }

  private readonly arrived = (listing: Listing): void => {
    if (listing !== this.state.listing) return;
    this.store.set({ revision: this.state.revision + 1 });
    // The cursor may have been ahead of the images.
    if (this.state.image?.id !== listing.at(this.state.cursor)?.id) this.look();
  };

  /** Everything that may show other numbers now, the place kept. */
  private async refresh(): Promise<void> {
    this.listed = this.list(true);
    const { view, side } = this.state;
    await Promise.all([
      this.listed,
      this.countTags(),
      side === "outliers" ? this.findOutliers() : null,
      view === "groups" ? this.findGroups() : null,
    ]);
  }

  /** What the list on the left says of the images in scope, which are others now. */
  private async countScope(): Promise<void> {
    await Promise.all([
      this.countTags(),
      this.state.side === "outliers" ? this.openOutliers() : null,
    ]);
  }

  /** Show the images that pass a filter. same: the outliers are still those of the scope before. */
  async filterBy(filter: string, same = false): Promise<void> {
    if (filter === this.state.filter) return;
    const scope = this.state.scope === "selected" ? "selected" : narrowest(filter.trim(), 0);
    this.store.set({ filter, scope });
    if (this.state.view === "groups") this.store.set({ view: "grid" });
    this.listed = this.list();
    await this.listed;
    if (this.state.filterProblem === null) await (same ? this.countTags() : this.countScope());
  }

  moveTo(place: number, extending = false): void {
    const { listing, cursor, selection } = this.state;
    if (!listing || place < 0 || place >= listing.total) return;
    if (!extending) {
      this.store.set({ cursor: place, editing: null });
      this.look();
      return;
    }
    void this.order().then((order) => {
      this.select(extend(selection, order, cursor, place), place);
      this.look();
    });
  }

  choose(place: number): void {
    const row = this.state.listing?.at(place);
    if (!row) return;
    // Only this place is read from the order.
    const order = { length: place + 1, [place]: row.id };
    this.select(toggle(this.state.selection, order, place), place);
    this.look();
  }

  async chooseAll(): Promise<void> {
    const order = await this.order();
    this.select(all(order), this.state.cursor);
  }

  letGo(): boolean {
    const { selection, filter } = this.state;
    if (selection.chosen.size > 0) {
      this.select(NOTHING, this.state.cursor);
      return true;
    }
    if (filter !== "") {
      void this.filterBy("");
      return true;
    }
    return false;
  }

  private select(selection: State["selection"], cursor: number): void {
    const scope = narrowest(this.state.filter.trim(), selection.chosen.size);
    const changed = scope !== this.state.scope || scope === "selected";
    this.store.set({ selection, cursor, scope });
    if (changed) void this.countScope();
  }

  /** The numbers of all images that are shown, in order; the windows that are here answer where they can. */
  private async order(): Promise<readonly number[]> {
    const listing = this.state.listing;
    if (!listing) return [];
    try {
      return (await this.api.ids(listing.where)).id;
    } catch (error) {
      this.fail(error);
      return [];
    }
  }

  private nameOf(id: number): string {
    const listing = this.state.listing;
    const place = listing?.placeOf(id) ?? -1;
    return (place >= 0 ? listing?.at(place)?.name : "") ?? "";
  }

  // -- the image under the cursor

  /** Read the image under the cursor, once the cursor rests. */
  look(): void {
    clearTimeout(this.looking);
    const row = this.state.listing?.at(this.state.cursor);
    if (!row) {
      this.store.set({ image: null });
      return;
    }
    this.looking = setTimeout(() => void this.read(row.id), LOOK);
  }

  async read(id: number): Promise<void> {
    const signal = this.renew("image");
    try {
      this.store.set({ image: await this.api.image(id, signal) });
    } catch (error) {
      if (error instanceof Refused && error.status === 404) this.store.set({ image: null });
      else this.fail(error);
    }
  }

  // -- tags, outliers, near-duplicates

  scopeOf(name: ScopeName = this.state.scope): Scope {
    const { filter, listing, selection } = this.state;
    if (name === "selected") return { in: "ids", ids: [...selection.chosen] };
    if (name === "filtered" && filter.trim() !== "")
      return { in: "where", where: listing?.where ?? filter.trim() };
    return { in: "all" };
  }

  /** The scope, null where a filter that cannot be read leaves open what is meant. */
  private scopeSeen(): Scope | null {
    return this.state.filterProblem !== null && this.state.scope === "filtered"
      ? null
      : this.scopeOf();
  }

  async countTags(): Promise<void> {
    const signal = this.renew("tags");
    try {
      const tags = await this.api.tags(this.scopeOf(), signal);
      const tag =
        this.state.tag !== null && tags.tag.includes(this.state.tag) ? this.state.tag : null;
      this.store.set({ tags, tag });
    } catch (error) {
      this.fail(error);
    }
  }

  setScope(scope: ScopeName): void {
    if (scope === this.state.scope) return;
    this.store.set({ scope });
    void this.countScope();
  }

  cycleScope(): void {
    const { scope, filter, selection } = this.state;
    this.setScope(nextScope(scope, filter.trim(), selection.chosen.size));
  }

  openOutliers(): Promise<void> {
    this.outliersOf = this.scopeOf();
    return this.findOutliers();
  }

  /** Show the images that lack what the others have; the list stays, to go on from there. */
  showLacking(lack: string): Promise<void> {
    const among = this.outliersOf;
    return this.filterBy(among.in === "where" ? joined(among.where, lack) : lack, true);
  }

  async findOutliers(share = this.state.share): Promise<void> {
    this.store.set({ side: "outliers", share });
    const signal = this.renew("outliers");
    try {
      this.store.set({ outliers: await this.api.outliers(this.outliersOf, share, signal) });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Show the near-duplicates, those of one image if it is named; ask again while the server still compares. */
  async findGroups(about?: number): Promise<void> {
    this.store.set({ view: "groups", editing: null });
    try {
      const groups = await this.api.duplicates();
      const twins = await this.api.images("dup:yes", 0, MOST_TWINS);
      const groupRows = new Map(
        twins.id.map((id, at) => [
          id,
          {
            name: twins.name[at] ?? "",
            v: twins.v[at] ?? "",
            w: twins.w[at] ?? 0,
            h: twins.h[at] ?? 0,
            tags: twins.tags[at] ?? -1,
          },
        ]),
      );
      const named =
        about === undefined ? -1 : groups.groups.findIndex((group) => group.includes(about));
      const group =
        named >= 0 ? named : Math.max(0, Math.min(this.state.group, groups.groups.length - 1));
      this.store.set({ groups, groupRows, group });
      if (groups.done < groups.of)
        setTimeout(() => this.state.view === "groups" && void this.findGroups(), 1000);
    } catch (error) {
      this.fail(error);
    }
  }

  async keepOne(number: number): Promise<void> {
    const group = this.state.groups?.groups[this.state.group];
    const kept = group?.[number - 1];
    if (!group || kept === undefined) return;
    await this.apply({ drop: true }, { in: "ids", ids: group.filter((id) => id !== kept) });
  }

  // -- changing

  /** Apply an operation to the scope; whatever changed in the meantime is shown and nothing is overwritten. */
  apply(operation: Operation, scope?: Scope): Promise<boolean> {
    const reached = scope ? Promise.resolve(scope) : this.listed.then(() => this.scopeSeen());
    return this.change(async (version) => {
      const known = await reached;
      if (known === null)
        throw new Refused(
          400,
          "The filter cannot be read, so nothing was changed.",
          this.state.filterProblem?.error,
        );
      return this.api.apply(version, known, operation);
    });
  }

  removeTag(tag: string): Promise<boolean> {
    return this.apply({ remove: [tag] });
  }

  /** The number of the image under the cursor; what is known of it may still be on its way. */
  get here(): number | null {
    return this.state.listing?.at(this.state.cursor)?.id ?? null;
  }

  exclude(): Promise<boolean> {
    const { scope, selection } = this.state;
    const ids =
      scope === "selected" && selection.chosen.size > 0
        ? [...selection.chosen]
        : this.here === null
          ? []
          : [this.here];
    this.store.set({ editing: null });
    return ids.length ? this.apply({ drop: true }, { in: "ids", ids }) : Promise.resolve(false);
  }

  saveCaption(id: number, hash: string, tags: readonly string[]): Promise<boolean> {
    const text = formatTags(tags);
    return this.change((version, fresh) => this.api.caption(version, id, fresh ?? hash, text), id);
  }

  /** Put tags behind the caption of an image, as it stands when the edits before this one are done. */
  addTags(id: number, tags: readonly string[]): Promise<boolean> {
    return this.rewrite(id, (before) => [...before, ...tags]);
  }

  removeFrom(id: number, tag: string): Promise<boolean> {
    return this.rewrite(id, (before) => before.filter((other) => other !== tag));
  }

  private rewrite(
    id: number,
    edited: (before: readonly string[]) => readonly string[],
  ): Promise<boolean> {
    return this.change(async (version) => {
      const seen = this.state.image;
      const image =
        seen?.id === id && seen.version === this.state.version ? seen : await this.api.image(id);
      return this.api.caption(
        version,
        id,
        image.hash,
        formatTags(edited(image.tags.map(({ tag }) => tag))),
      );
    }, id);
  }

  undo(): Promise<boolean> {
    return this.change((version) => this.api.undo(version), undefined, "Taken back");
  }

  redo(): Promise<boolean> {
    return this.change((version) => this.api.redo(version), undefined, "Done again");
  }

  /** One change after the other, each with the version that the former one returned. */
  private change(
    ask: (version: number, hash?: string) => Promise<Applied>,
    image?: number,
    says = "Done",
  ): Promise<boolean> {
    const turn = this.queue.then(async () => {
      if (this.state.session?.read_only) {
        this.sayReadOnly();
        return false;
      }
      this.store.set({ working: true });
      try {
        await this.applied(await ask(this.state.version), says);
        return true;
      } catch (error) {
        if (error instanceof Refused && error.status === 409 && error.changed.length > 0)
          this.conflict(error, ask, image);
        else this.fail(error);
        return false;
      } finally {
        this.store.set({ working: false });
      }
    });
    this.queue = turn;
    return turn;
  }

  private conflict(
    error: Refused,
    ask: (version: number, hash?: string) => Promise<Applied>,
    image?: number,
  ): void {
    const conflict: Conflict = {
      says: error.message,
      changed: error.changed,
      count: Math.max(error.count, error.changed.length),
      again: () => {
        this.store.set({ conflict: null, version: error.version ?? this.state.version });
        void (async () => {
          const hash = image === undefined ? undefined : (await this.api.image(image)).hash;
          await this.change((version) => ask(version, hash), image);
        })();
      },
    };
    this.store.set({ conflict });
  }

  private async applied(done: Applied, says: string): Promise<void> {
    const gone = new Set(done.gone ?? []);
    const chosen = new Set([...this.state.selection.chosen].filter((id) => !gone.has(id)));
    const selection = { chosen, anchor: this.state.selection.anchor };
    const scope =
      this.state.scope === "selected" && chosen.size === 0
        ? narrowest(this.state.filter.trim(), 0)
        : this.state.scope;
    const came = (done.back?.length ?? 0) - gone.size;
    this.store.set({
      version: done.version,
      undo: done.undo,
      redo: done.redo,
      selection,
      scope,
      images: this.state.images + came,
    });
    const detail = [
      done.kept ? `${many(done.kept, "image")} left alone: ${done.why}` : "",
      ...(done.warnings ?? []),
    ];
    this.toast({
      says: done.changed > 0 ? `${says}: ${done.title}` : "Nothing to change.",
      detail: detail.filter((part) => part !== "").join(" "),
      kind: done.kept ? "warning" : "done",
      undo: done.changed > 0 && done.undo !== null,
    });
    const here = this.here;
    await Promise.all([
      this.refresh(),
      here !== null && done.ids.includes(here) ? this.read(here) : null,
    ]);
  }

  // -- what stands open

  open(bar: Bar | null): void {
    if (bar === "replace" && this.state.tag === null)
      this.say("There is no tag to replace.", "Choose one in the list of tags: l goes there.");
    else this.store.set({ bar });
  }

  dismissConflict(): void {
    this.store.set({ conflict: null });
    void this.catchUp();
  }

  toast(toast: Omit<Toast, "id">): void {
    const id = ++this.toasts;
    // What was done before is history: only the last of it can be taken back from here.
    const others = this.state.toasts.filter(
      (other) => toast.kind !== "done" || other.kind !== "done",
    );
    this.store.set({ toasts: [...others.slice(-2), { ...toast, id }] });
    setTimeout(() => this.dismiss(id), toast.kind === "error" ? 15_000 : 8_000);
  }

  sayReadOnly(): void {
    this.say("This page only reads.", "Start dsk review without --read-only to change captions.");
  }

  /** Among near-duplicates no image is under a cursor. */
  sayWhichOne(): void {
    this.say("Which of them is not clear.", "A number keeps one; g goes back to the images.");
  }

  private say(says: string, detail: string): void {
    this.toast({ says, detail, kind: "warning", undo: false });
  }

  dismiss(id: number): void {
    this.store.set({ toasts: this.state.toasts.filter((toast) => toast.id !== id) });
  }

  private renew(kind: "list" | "tags" | "image" | "outliers"): AbortSignal {
    this.asking[kind]?.abort();
    const controller = new AbortController();
    this.asking[kind] = controller;
    return controller.signal;
  }
}

export function many(count: number, noun: string): string {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

function few(names: readonly string[]): string {
  return names.length > 3
    ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more`
    : names.join(", ");
}
