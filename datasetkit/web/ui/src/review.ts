/** What the page does: keys and buttons call these methods; they call the server and set state. */

import {
  type Api,
  ApiError,
  type EditResult,
  type Image,
  type NearDuplicates,
  type Operation,
  type Progress,
  type Scope,
  type Session,
} from "./api";
import { formatTags, withoutTag } from "./captions";
import { and } from "./filters";
import { commonAspect } from "./geometry";
import { t } from "./i18n";
import { Listing, WINDOW } from "./listing";
import type { Toast } from "./parts/ToastList";
import { all, extend, NO_SELECTION, toggle } from "./selection";
import {
  type EditBar,
  groupFor,
  INITIAL_STATE,
  narrowestScope,
  nextScope,
  removal,
  type ScopeName,
  sortedTags,
  type State,
  targetTags,
} from "./state";
import { Store } from "./store";

/** Milliseconds: the caption of an image is loaded when the cursor has been on it for so long. */
const LOAD_DELAY = 60;
/** Milliseconds between two polls for changes by other programs. */
const POLL_INTERVAL = 2000;
/** Milliseconds after which a running edit shows its progress, and how often it is asked for. */
const PROGRESS_DELAY = 250;
const PROGRESS_INTERVAL = 150;
/** The server's limit for one request. */
const MAX_NEAR_DUPLICATES = 20_000;

type RequestKind = "list" | "tags" | "image" | "outliers" | "suggestions";
type DoneKey = "captions.done" | "captions.undone" | "captions.redone";
type Edit = (version: number, hash?: string) => Promise<EditResult>;

export class Review {
  readonly store = new Store<State>(INITIAL_STATE);
  private queue: Promise<unknown> = Promise.resolve();
  private toastCount = 0;
  private requests: Partial<Record<RequestKind, AbortController>> = {};
  private loadTimer: ReturnType<typeof setTimeout> | undefined;
  /** Resolves when the grid shows what the filter box says. An edit of the scope waits for it. */
  private listLoaded: Promise<void> = Promise.resolve();
  /** The near-duplicates that were kept by the last action. */
  private keptLast: readonly number[] | null = null;
  /** How often groups were kept or offered again: groups asked for before that are asked for again. */
  private keeps = 0;
  /** The scope whose outliers are listed. */
  private outliersScope: Scope = { in: "all" };

  constructor(readonly api: Api) {}

  private get state(): State {
    return this.store.get();
  }

  // -- start and polling

  /** given: the session, where it is loaded already. */
  async start(given?: Session): Promise<void> {
    try {
      const session = given ?? (await this.api.session());
      this.store.set({
        session,
        version: session.version,
        undo: session.undo,
        redo: session.redo,
        images: session.images,
        fatal: null,
      });
      await Promise.all([this.loadList(), this.loadTags()]);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Poll for changes by other programs while the page is visible; the result stops it. */
  poll(): () => void {
    const timer = setInterval(() => {
      const visible = document.visibilityState === "visible";
      if (visible && !this.state.saving && !this.state.fatal) void this.checkForChanges();
    }, POLL_INTERVAL);
    return () => clearInterval(timer);
  }

  async checkForChanges(): Promise<void> {
    const since = this.state.version;
    try {
      const changes = await this.api.changes(since);
      if (!this.state.online) this.store.set({ online: true });
      if (this.state.saving || changes.version <= this.state.version) return;
      const session = await this.api.session();
      if (this.state.saving || changes.version <= this.state.version) return;
      this.store.set({
        session,
        version: changes.version,
        images: session.images,
        undo: session.undo,
        redo: session.redo,
      });
      await this.refresh();
      const names = changes.external.map((id) => this.nameOf(id)).filter((name) => name !== "");
      const messages = [
        changes.external.length
          ? t("captions.changed.captions", {
              n: changes.external.length,
              names: shortList(names),
            })
          : "",
        changes.added.length ? t("captions.changed.added", { n: changes.added.length }) : "",
        changes.removed.length ? t("captions.changed.removed", { n: changes.removed.length }) : "",
        changes.reset ? t("captions.changed.reset") : "",
      ].filter((message) => message !== "");
      if (messages.length) this.store.set({ externalChanges: messages });
    } catch (error) {
      if (error instanceof ApiError && error.status === 0) this.store.set({ online: false });
      else this.fail(error);
    }
  }

  private fail(error: unknown): void {
    if (error instanceof DOMException && error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) {
      this.store.set({
        fatal: {
          error: t("captions.old"),
          hint: t("captions.old.hint"),
        },
      });
    } else if (this.state.session === null) {
      this.store.set({ fatal: { error: error.message, hint: error.hint } });
    } else {
      this.toast({ message: error.message, detail: error.hint, kind: "error", undo: false });
    }
  }

  // -- the list of images

  private async loadList(keepCursor = false): Promise<void> {
    const where = this.state.filter.trim();
    const signal = this.newSignal("list");
    const cursor = keepCursor ? Math.max(0, this.state.cursor) : 0;
    try {
      let first = await this.api.images(where, windowOf(cursor), WINDOW, signal);
      if (first.id.length === 0 && first.total > 0) {
        first = await this.api.images(where, windowOf(first.total - 1), WINDOW, signal);
      }
      this.showList(where, first, keepCursor);
    } catch (error) {
      if (error instanceof ApiError && error.status === 400) {
        const { message, hint, position } = error;
        this.store.set({ filterProblem: { error: message, hint, position } });
      } else {
        this.fail(error);
      }
    }
  }

  private showList(
    where: string,
    first: Awaited<ReturnType<Api["images"]>>,
    keepCursor: boolean,
  ): void {
    const { listing, cursor } = this.state;
    const next = new Listing(this.api, where, first, this.onWindow, keepCursor ? listing : null);
    // The cursor stays on its image even if images before it were added or removed. If its image is
    // gone, it moves to the next one.
    const moved = keepCursor ? next.indexOf(listing?.at(cursor)?.id ?? -1) : -1;
    this.store.set({
      listing: next,
      revision: this.state.revision + 1,
      cursor: moved >= 0 ? moved : Math.min(keepCursor ? cursor : 0, next.total - 1),
      filterProblem: null,
      aspect: listing === null ? commonAspect(first.w, first.h) : this.state.aspect,
    });
    if (where === "") this.store.set({ images: next.total });
    this.scheduleImageLoad();
  }

  private readonly onWindow = (listing: Listing): void => {
    if (listing !== this.state.listing) return;
    this.store.set({ revision: this.state.revision + 1 });
    // The cursor may have been on an image that was not loaded yet.
    if (this.state.image?.id !== this.currentId) this.scheduleImageLoad();
  };

  /** Reload everything that may show other numbers now, and keep the cursor. */
  private async refresh(): Promise<void> {
    this.listLoaded = this.loadList(true);
    const { view, sidebar } = this.state;
    await Promise.all([
      this.listLoaded,
      this.loadTags(),
      sidebar === "outliers" ? this.loadOutliers() : null,
      sidebar === "suggestions" ? this.loadSuggestions() : null,
      view === "near-duplicates" ? this.showNearDuplicates() : null,
    ]);
  }

  /** Reload the list on the left: the images in scope have changed. */
  private async reloadSidebar(): Promise<void> {
    await Promise.all([
      this.loadTags(),
      this.state.sidebar === "outliers" ? this.openOutliers() : null,
      this.state.sidebar === "suggestions" ? this.openSuggestions() : null,
    ]);
  }

  /** Show the images that match a filter. keepOutliers: of the previous scope. */
  async setFilter(filter: string, keepOutliers = false): Promise<void> {
    if (filter === this.state.filter) return;
    const scope = this.state.scope === "selected" ? "selected" : narrowestScope(filter.trim(), 0);
    this.store.set({ filter, scope });
    if (this.state.view === "near-duplicates") this.store.set({ view: "grid" });
    this.listLoaded = this.loadList();
    await this.listLoaded;
    if (this.state.filterProblem === null) {
      await (keepOutliers ? this.loadTags() : this.reloadSidebar());
    }
  }

  moveTo(index: number, extending = false): void {
    const { listing, cursor, selection } = this.state;
    if (!listing || index < 0 || index >= listing.total) return;
    if (!extending) {
      this.store.set({ cursor: index, editing: null });
      this.scheduleImageLoad();
      return;
    }
    void this.loadOrder().then((order) => {
      this.select(extend(selection, order, cursor, index), index);
      this.scheduleImageLoad();
    });
  }

  toggleSelected(index: number): void {
    const row = this.state.listing?.at(index);
    if (!row) return;
    // `toggle` reads only this index of the order.
    const order = { length: index + 1, [index]: row.id };
    this.select(toggle(this.state.selection, order, index), index);
    this.scheduleImageLoad();
  }

  async selectAll(): Promise<void> {
    const order = await this.loadOrder();
    this.select(all(order), this.state.cursor);
  }

  /** Clear the selection, or else the filter; false if there is neither. */
  clear(): boolean {
    const { selection, filter } = this.state;
    if (selection.ids.size > 0) {
      this.select(NO_SELECTION, this.state.cursor);
      return true;
    }
    if (filter !== "") {
      void this.setFilter("");
      return true;
    }
    return false;
  }

  private select(selection: State["selection"], cursor: number): void {
    const scope = narrowestScope(this.state.filter.trim(), selection.ids.size);
    const changed = scope !== this.state.scope || scope === "selected";
    this.store.set({ selection, cursor, scope });
    if (changed) void this.reloadSidebar();
  }

  /** The ids of all listed images, in order. */
  private async loadOrder(): Promise<readonly number[]> {
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
    return listing?.at(listing.indexOf(id))?.name ?? "";
  }

  // -- the image under the cursor

  /** The id of the image under the cursor; its caption may still be loading. */
  get currentId(): number | null {
    return this.state.listing?.at(this.state.cursor)?.id ?? null;
  }

  /** Load the image under the cursor once the cursor rests. */
  private scheduleImageLoad(): void {
    clearTimeout(this.loadTimer);
    const id = this.currentId;
    if (id === null) {
      this.store.set({ image: null });
      return;
    }
    this.loadTimer = setTimeout(() => void this.loadImage(id), LOAD_DELAY);
  }

  async loadImage(id: number): Promise<void> {
    const signal = this.newSignal("image");
    try {
      this.store.set({ image: await this.api.image(id, signal) });
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) this.store.set({ image: null });
      else this.fail(error);
    }
  }

  // -- scope, tags, outliers, near-duplicates

  get scope(): Scope {
    const { scope, filter, listing, selection } = this.state;
    if (scope === "selected") return { in: "ids", ids: [...selection.ids] };
    if (scope === "filtered" && filter.trim() !== "") {
      return { in: "where", where: listing?.where ?? filter.trim() };
    }
    return { in: "all" };
  }

  setScope(scope: ScopeName): void {
    if (scope === this.state.scope) return;
    this.store.set({ scope });
    void this.reloadSidebar();
  }

  cycleScope(): void {
    const { scope, filter, selection } = this.state;
    this.setScope(nextScope(scope, filter.trim(), selection.ids.size));
  }

  async loadTags(): Promise<void> {
    const signal = this.newSignal("tags");
    try {
      const tags = await this.api.tags(this.scope, signal);
      const { tag, tagSelection } = this.state;
      const listed = new Set(tags.tag);
      const ids = new Set([...tagSelection.ids].filter((name) => listed.has(name)));
      const whole = ids.size === tagSelection.ids.size;
      this.store.set({
        tags,
        tag: tag !== null && listed.has(tag) ? tag : null,
        tagSelection: whole ? tagSelection : { ids, anchor: -1 },
        tagGroup: whole ? this.state.tagGroup : null,
      });
    } catch (error) {
      this.fail(error);
    }
  }

  // -- selecting tags

  /** Move the cursor of the tag list in an order of tags; extending: select up to there. */
  moveToTag(order: readonly string[], index: number, extending = false): void {
    const tag = order[index];
    if (tag === undefined) return;
    const { tagSelection } = this.state;
    const from = Math.max(0, order.indexOf(this.state.tag ?? ""));
    this.store.set({
      tag,
      tagSelection: extending ? extend(tagSelection, order, from, index) : NO_SELECTION,
      tagGroup: null,
    });
  }

  /**
   * Select or deselect one more tag. The first click with Ctrl also selects the tag under the
   * cursor, as file managers do.
   */
  toggleTag(order: readonly string[], index: number, withCursor = false): void {
    const tag = order[index];
    if (tag === undefined) return;
    const at = order.indexOf(this.state.tag ?? "");
    const begun =
      withCursor && this.state.tagSelection.ids.size === 0 && at >= 0 && at !== index
        ? toggle<string>(NO_SELECTION, order, at)
        : this.state.tagSelection;
    this.store.set({ tag, tagSelection: toggle(begun, order, index), tagGroup: null });
  }

  selectAllTags(order: readonly string[]): void {
    this.store.set({ tagSelection: all(order), tagGroup: null });
  }

  /** Select the tags of a group in scope, or of none; false if no tag of it is in scope. */
  selectTagGroup(name: string | null): boolean {
    const { tags } = this.state;
    const row = name === null || tags === null ? -1 : tags.groups.name.indexOf(name);
    const rows = tags?.groups.rows[row];
    if (!tags || !rows?.length) {
      this.store.set({ tagSelection: NO_SELECTION, tagGroup: null });
      return false;
    }
    const ids = new Set(rows.map((at) => tags.tag[at] ?? ""));
    this.store.set({ tagSelection: { ids, anchor: -1 }, tagGroup: name, tag: [...ids][0] ?? null });
    return true;
  }

  /** Select the group that a search such as `@fa` names. */
  selectSearchedGroup(query: string): boolean {
    const { tags } = this.state;
    return this.selectTagGroup(tags?.groups.name[tags ? groupFor(tags.groups, query) : -1] ?? null);
  }

  openOutliers(): Promise<void> {
    this.outliersScope = this.scope;
    return this.loadOutliers();
  }

  async loadOutliers(share = this.state.share): Promise<void> {
    this.store.set({ sidebar: "outliers", share });
    const signal = this.newSignal("outliers");
    try {
      this.store.set({ outliers: await this.api.outliers(this.outliersScope, share, signal) });
    } catch (error) {
      this.fail(error);
    }
  }

  openSuggestions(): Promise<void> {
    this.outliersScope = this.scope;
    return this.loadSuggestions();
  }

  async loadSuggestions(pruneKind = this.state.pruneKind): Promise<void> {
    this.store.set({ sidebar: "suggestions", pruneKind });
    const signal = this.newSignal("suggestions");
    try {
      const suggestions = await this.api.suggestions(this.outliersScope, pruneKind, signal);
      this.store.set({ suggestions });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Take rows of the suggestions in the scope that they were made for. */
  takeSuggestions(rows: readonly number[]): Promise<boolean> {
    const { suggestions, pruneKind } = this.state;
    if (!suggestions || rows.length === 0) return Promise.resolve(false);
    const keys = rows.map((row) => [
      suggestions.folder[row] ?? "",
      suggestions.action[row] ?? "",
      suggestions.tag[row] ?? "",
      suggestions.why[row] ?? "",
    ]);
    return this.apply({ prune: { kind: pruneKind, rows: keys } }, this.outliersScope);
  }

  /** Show the images without a tag. The outliers stay listed, so that the next one can follow. */
  showMissing(withoutTag: string): Promise<void> {
    const scope = this.outliersScope;
    const filter = scope.in === "where" ? and(scope.where, withoutTag) : withoutTag;
    return this.setFilter(filter, true);
  }

  /** Show the near-duplicates, those of one image first. Repeats while the server compares. */
  async showNearDuplicates(of?: number): Promise<void> {
    this.store.set({ view: "near-duplicates", editing: null });
    const { keeps } = this;
    try {
      const nearDuplicates = await this.api.nearDuplicates();
      const columns = await this.api.images("dup:yes", 0, MAX_NEAR_DUPLICATES);
      const groupImages = new Map(
        columns.id.map((id, row) => [
          id,
          {
            name: columns.name[row] ?? "",
            v: columns.v[row] ?? "",
            w: columns.w[row] ?? 0,
            h: columns.h[row] ?? 0,
            tags: columns.tags[row] ?? -1,
          },
        ]),
      );
      if (keeps !== this.keeps) {
        if (this.state.view === "near-duplicates") await this.showNearDuplicates(of);
        return;
      }
      this.showGroups(nearDuplicates, of, groupImages);
      if (nearDuplicates.done < nearDuplicates.total) {
        setTimeout(() => {
          if (this.state.view === "near-duplicates") void this.showNearDuplicates();
        }, 1000);
      }
    } catch (error) {
      this.fail(error);
    }
  }

  /** Show groups: that of an image, else the one that was shown, wherever it is now. */
  private showGroups(
    nearDuplicates: NearDuplicates,
    of?: number,
    groupImages = this.state.groupImages,
  ): void {
    const { groups } = nearDuplicates;
    const shown = this.state.nearDuplicates?.groups[this.state.group] ?? [];
    const isShown = (group: readonly number[]) =>
      of === undefined
        ? shown.length > 0 && shown.every((id) => group.includes(id))
        : group.includes(of);
    const found = groups.findIndex(isShown);
    const group = found >= 0 ? found : Math.max(0, Math.min(this.state.group, groups.length - 1));
    this.store.set({ nearDuplicates, groupImages, group });
  }

  /** Keep all images of the current group: it is not offered again. */
  async keepAll(): Promise<void> {
    const ids = this.state.nearDuplicates?.groups[this.state.group];
    if (this.state.session?.read_only) return this.warnReadOnly();
    if (!ids || !(await this.keep(true, ids))) return;
    this.keptLast = ids;
    this.toast({
      message: t("captions.near.kept", { count: ids.length }),
      detail: t("captions.near.kept.hint"),
      kind: "done",
      undo: true,
    });
  }

  /** Offer all groups again of which all images were kept. */
  async offerKeptAgain(): Promise<void> {
    this.keptLast = null;
    await this.keep(false);
  }

  private async keep(keep: boolean, ids?: readonly number[]): Promise<boolean> {
    try {
      const nearDuplicates = await this.api.keep(keep, ids);
      this.keeps += 1;
      // Back to the group that is offered again.
      this.showGroups(nearDuplicates, keep ? undefined : ids?.[0]);
      return true;
    } catch (error) {
      this.fail(error);
      return false;
    }
  }

  /** Keep one image of the current group, by its position from 1, and exclude the others. */
  async keepOne(position: number): Promise<void> {
    const group = this.state.nearDuplicates?.groups[this.state.group];
    const kept = group?.[position - 1];
    if (!group || kept === undefined) return;
    await this.apply({ drop: true }, { in: "ids", ids: group.filter((id) => id !== kept) });
  }

  // -- edits

  /** Apply an operation to a scope, by default the current one. A conflict opens a dialog. */
  apply(operation: Operation, scope?: Scope): Promise<boolean> {
    const target = scope
      ? Promise.resolve(scope)
      : this.listLoaded.then(() => this.scopeOnScreen());
    return this.enqueue(async (version) => {
      const known = await target;
      if (known === null) {
        throw new ApiError(400, t("captions.filter.refused"), this.state.filterProblem?.error);
      }
      return this.api.apply(version, known, operation);
    });
  }

  /** The current scope; null if the filter is not valid: the grid then shows other images. */
  private scopeOnScreen(): Scope | null {
    const { filterProblem, scope } = this.state;
    return filterProblem !== null && scope === "filtered" ? null : this.scope;
  }

  /** Remove the selected tags, or the one under the cursor, from the scope. */
  removeTags(): Promise<boolean> {
    const operation = removal(this.state);
    return operation === null ? Promise.resolve(false) : this.apply(operation);
  }

  exclude(): Promise<boolean> {
    const { scope, selection } = this.state;
    const current = this.currentId === null ? [] : [this.currentId];
    const ids = scope === "selected" && selection.ids.size > 0 ? [...selection.ids] : current;
    this.store.set({ editing: null });
    return ids.length ? this.apply({ drop: true }, { in: "ids", ids }) : Promise.resolve(false);
  }

  saveCaption(id: number, hash: string, text: string): Promise<boolean> {
    return this.enqueue(
      (version, newHash) => this.api.caption(version, id, newHash ?? hash, text),
      id,
    );
  }

  /** Append tags to a caption, as it is after the edits before this one. */
  addTags(id: number, tags: readonly string[]): Promise<boolean> {
    return this.editText(id, ({ caption }) => formatTags(caption ? [caption, ...tags] : tags), {
      add: tags,
    });
  }

  removeTagFromImage(id: number, tag: string): Promise<boolean> {
    return this.editText(
      id,
      ({ caption, tags }) =>
        withoutTag(
          caption ?? "",
          tags.map((row) => row.tag),
          tag,
        ),
      { remove: [tag] },
    );
  }

  /** Edit the text of a caption. One with sentences is not taken apart here: the server applies
   * the operation to its tags.
   */
  private editText(
    id: number,
    edit: (image: Image) => string,
    operation: Operation,
  ): Promise<boolean> {
    return this.enqueue(async (version) => {
      const loaded = this.state.image;
      const isCurrent = loaded?.id === id && loaded.version === this.state.version;
      const image = isCurrent ? loaded : await this.api.image(id);
      return image.sentences.length
        ? this.api.apply(version, { in: "ids", ids: [id] }, operation)
        : this.api.caption(version, id, image.hash, edit(image));
    }, id);
  }

  /** Write what a tag means in the language of the user. */
  translate(tag: string, meaning: string): Promise<boolean> {
    return this.enqueue(() => this.api.translate(tag, meaning));
  }

  /** Undo the last edit; of near-duplicates that were just kept, that. */
  undo(): Promise<boolean> {
    const { keptLast } = this;
    if (keptLast) {
      this.keptLast = null;
      this.store.set({ toasts: this.state.toasts.filter((toast) => toast.kind !== "done") });
      return this.keep(false, keptLast);
    }
    return this.enqueue((version) => this.api.undo(version), undefined, "captions.undone");
  }

  redo(): Promise<boolean> {
    return this.enqueue((version) => this.api.redo(version), undefined, "captions.redone");
  }

  /** Run edits one after the other, each with the version that the previous one returned. */
  private enqueue(edit: Edit, image?: number, done: DoneKey = "captions.done"): Promise<boolean> {
    const run = this.queue.then(async () => {
      if (this.state.session?.read_only) {
        this.warnReadOnly();
        return false;
      }
      this.store.set({ saving: true });
      this.keptLast = null;
      const stop = this.watchProgress();
      try {
        await this.afterEdit(await edit(this.state.version), done);
        return true;
      } catch (error) {
        const conflict =
          error instanceof ApiError && error.status === 409 && error.conflicts.length > 0;
        if (conflict) this.showConflict(error, edit, image);
        else this.fail(error);
        return false;
      } finally {
        stop();
        this.store.set({ saving: false, progress: null });
      }
    });
    this.queue = run;
    return run;
  }

  /** Ask for the progress of an edit that takes longer than a moment; the result stops it. */
  private watchProgress(): () => void {
    let stopped = false;
    const ask = async () => {
      const progress = await this.api.progress().catch(() => null);
      if (stopped) return;
      if (progress) this.store.set({ progress });
      timer = setTimeout(() => void ask(), PROGRESS_INTERVAL);
    };
    let timer = setTimeout(() => void ask(), PROGRESS_DELAY);
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }

  private showConflict(error: ApiError, edit: Edit, image?: number): void {
    const applyAnyway = () => {
      this.store.set({ conflict: null, version: error.version ?? this.state.version });
      void (async () => {
        const hash = image === undefined ? undefined : (await this.api.image(image)).hash;
        await this.enqueue((version) => edit(version, hash), image);
      })();
    };
    const count = Math.max(error.count, error.conflicts.length);
    this.store.set({ conflict: { captions: error.conflicts, count, applyAnyway } });
  }

  private async afterEdit(result: EditResult, done: DoneKey): Promise<void> {
    const removed = new Set(result.removed ?? []);
    const ids = new Set([...this.state.selection.ids].filter((id) => !removed.has(id)));
    const { scope, filter, selection, images, session } = this.state;
    const { trigger = session?.trigger ?? [] } = result;
    const { translations = session?.translations ?? false } = result;
    const newTrigger = trigger.join() !== session?.trigger.join();
    this.store.set({
      session: session && { ...session, trigger, translations },
      version: result.version,
      undo: result.undo,
      redo: result.redo,
      selection: { ids, anchor: selection.anchor },
      scope: scope === "selected" && ids.size === 0 ? narrowestScope(filter.trim(), 0) : scope,
      images: images + (result.restored?.length ?? 0) - removed.size,
    });
    const details = [...(result.warnings ?? [])];
    if (result.kept) {
      details.unshift(t("captions.skipped", { n: result.kept, reason: result.reason }));
    }
    this.toast({
      message: result.changed > 0 ? t(done, { title: result.title }) : t("captions.unchanged"),
      detail: details.join(" "),
      kind: result.kept ? "warning" : "done",
      undo: result.changed > 0 && result.undo !== null,
    });
    const id = this.currentId;
    // A meaning is shown with each image.
    const changed =
      newTrigger || result.ids.length === 0 || (id !== null && result.ids.includes(id));
    const reload = id !== null && changed ? this.loadImage(id) : null;
    await Promise.all([this.refresh(), reload]);
    // The tag that was searched for may be gone: an empty list would look like an error.
    const { tags, tagQuery } = this.state;
    if (tags !== null && tagQuery !== "" && sortedTags(tags, "count", tagQuery).length === 0) {
      this.store.set({ tagQuery: "" });
    }
  }

  // -- bars, dialogs, messages

  openEditBar(editBar: EditBar): void {
    const needsTag = editBar === "replace" || editBar === "meaning";
    if (needsTag && targetTags(this.state).length === 0) {
      this.warn(t("captions.noTag"), t("captions.noTag.hint"));
    } else {
      this.store.set({ editBar });
    }
  }

  dismissConflict(): void {
    this.store.set({ conflict: null });
    void this.checkForChanges();
  }

  warnReadOnly(): void {
    this.warn(t("captions.readOnly.warning"), t("captions.readOnly.hint"));
  }

  /** No single image is under the cursor in a group of near-duplicates. */
  warnNoCursor(): void {
    this.warn(t("captions.noImage"), t("captions.noImage.hint"));
  }

  private warn(message: string, detail: string): void {
    this.toast({ message, detail, kind: "warning", undo: false });
  }

  private toast(toast: Omit<Toast, "id">): void {
    const id = ++this.toastCount;
    // Of finished edits only the last is shown: it is the one that Undo would revert.
    const others = this.state.toasts.filter(
      (other) => toast.kind !== "done" || other.kind !== "done",
    );
    this.store.set({ toasts: [...others.slice(-2), { ...toast, id }] });
    setTimeout(() => this.dismiss(id), toast.kind === "error" ? 15_000 : 8_000);
  }

  dismiss(id: number): void {
    this.store.set({ toasts: this.state.toasts.filter((toast) => toast.id !== id) });
  }

  /** Abort the previous request of a kind and return the signal for the next one. */
  private newSignal(kind: RequestKind): AbortSignal {
    this.requests[kind]?.abort();
    const controller = new AbortController();
    this.requests[kind] = controller;
    return controller.signal;
  }
}

/** The offset of the window that contains an index. */
function windowOf(index: number): number {
  return Math.floor(index / WINDOW) * WINDOW;
}

export function progressText({ label, done, total }: Progress): string {
  if (total === 0) return t("captions.progress.writing");
  const captions = t("captions.n.caption", { n: total });
  return label === "reading"
    ? t("captions.progress.reading.of", { done, captions })
    : t("captions.progress.writing.of", { done, captions });
}

function shortList(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(", ");
  return names.length > 3
    ? t("captions.changed.names", { names: shown, n: names.length - 3 })
    : shown;
}
