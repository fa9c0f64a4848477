/** What the shell and all tabs share: the server, the project's facts, messages, undo. */

import { ApiError, type Http } from "../http";
import { t } from "../i18n";
import type { Toast } from "../parts/ToastList";
import { Store } from "../store";
import { type Job, type Run, type StudioApi, studioApi, type StudioSession } from "./api";
import { Events, realBrowser, type ServerEvent } from "./events";
import type { Project } from "./facts";

/** The main button of the tab: what happens, and why it cannot be pressed. */
export interface PrimaryAction {
  readonly label: string;
  /** Why not yet; "" where it can be pressed. */
  readonly blocked: string;
  readonly run: () => void;
}

export type Overlay = "help" | "jobs" | "palette" | null;
/** The stream of events: ended means that the server announced it. */
export type Connection = "connecting" | "live" | "lost" | "ended" | "replaced";

export interface StudioState {
  readonly session: StudioSession;
  /** Null until it is loaded. */
  readonly project: Project | null;
  readonly connection: Connection;
  readonly jobs: readonly Job[];
  /** The newest first; null until they are loaded. */
  readonly runs: readonly Run[] | null;
  readonly undo: string | null;
  readonly redo: string | null;
  /** What was done last, for the bottom band. */
  readonly last: string;
  /** The command that does what the tab does. */
  readonly command: string;
  readonly primary: PrimaryAction | null;
  readonly toasts: readonly Toast[];
  readonly overlay: Overlay;
  readonly drawerOpen: boolean;
}

interface JobEvent {
  readonly jobs?: readonly Job[];
  readonly gone?: readonly string[];
}

interface UndoHandler {
  readonly undo: () => unknown;
  readonly redo: () => unknown;
}

export class Studio {
  readonly store: Store<StudioState>;
  readonly api: StudioApi;
  readonly events: Events;
  /** What undoes while a tab that shows the result itself is open. */
  undoHandler: UndoHandler | null = null;
  private toastCount = 0;
  private readonly fileListeners = new Set<(kinds: readonly string[]) => void>();
  private reloadTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly http: Http,
    session: StudioSession,
  ) {
    http.program = "dsk studio";
    this.api = studioApi(http);
    this.events = new Events(
      realBrowser(),
      (connection) => this.onConnection(connection),
      session.events,
    );
    this.store = new Store<StudioState>({
      session,
      project: null,
      connection: "connecting",
      jobs: [],
      runs: null,
      undo: session.undo ?? null,
      redo: session.redo ?? null,
      last: "",
      command: "",
      primary: null,
      toasts: [],
      overlay: null,
      drawerOpen: false,
    });
  }

  /** Load what the shell shows, and follow the server's events. */
  async start(): Promise<void> {
    this.events.on((event) => this.onEvent(event));
    this.events.start();
    await this.refresh();
  }

  private onEvent({ type, data }: ServerEvent): void {
    if (type === "hello" && data["resumed"] === false) this.reloadSoon(["all"]);
    if (type === "job") this.mergeJobs(data as JobEvent);
    if (type === "files") this.reloadSoon(Object.keys(data));
  }

  private onConnection(connection: Connection): void {
    const before = this.store.get().connection;
    if (before === "replaced") return;
    this.store.set({ connection });
    // Whether the server is gone, or another one is there that does not know this page.
    if (connection === "lost") void this.refresh();
  }

  private mergeJobs({ jobs: changed = [], gone = [] }: JobEvent): void {
    const { jobs } = this.store.get();
    const states = new Map(jobs.map((job) => [job.id, job.state]));
    const merged = new Map(jobs.map((job) => [job.id, job]));
    for (const job of changed) merged.set(job.id, job);
    for (const id of gone) merged.delete(id);
    this.store.set({ jobs: [...merged.values()] });
    // What began or ended has changed more than its job.
    if (changed.some((job) => states.get(job.id) !== job.state)) this.reloadSoon(["jobs"]);
  }

  /** Several changes at once are one reload. */
  private reloadSoon(kinds: readonly string[]): void {
    for (const listener of [...this.fileListeners]) listener(kinds);
    this.reloadTimer ??= setTimeout(() => {
      this.reloadTimer = undefined;
      void this.refresh();
    }, 100);
  }

  /** Call the listener when files of a kind have changed on disk; the result stops it. */
  onFiles(listener: (kinds: readonly string[]) => void): () => void {
    this.fileListeners.add(listener);
    return () => this.fileListeners.delete(listener);
  }

  async refresh(): Promise<void> {
    try {
      const [session, project, jobs, runs] = await Promise.all([
        this.http.get<StudioSession>("api/session"),
        this.http.get<Project>("api/project"),
        this.api.jobs(),
        this.api.runs(),
      ]);
      this.http.token = session.token;
      this.store.set({
        session,
        project,
        jobs: jobs.jobs,
        runs: runs.runs,
        undo: project.history.undo,
        redo: session.redo ?? null,
      });
      // The server is there after all: only its stream was interrupted.
      if (this.store.get().connection === "lost") this.store.set({ connection: "connecting" });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Send a request, and load again what it changed. Errors are shown. */
  async act(request: Promise<unknown>): Promise<boolean> {
    try {
      await request;
      await this.refresh();
      return true;
    } catch (error) {
      this.fail(error);
      return false;
    }
  }

  setUndo(undo: string | null, redo: string | null): void {
    const state = this.store.get();
    if (state.undo !== undo || state.redo !== redo) this.store.set({ undo, redo });
  }

  async undo(redo = false): Promise<void> {
    if (this.undoHandler) {
      await (redo ? this.undoHandler.redo() : this.undoHandler.undo());
      return;
    }
    const { session, undo: title, redo: redoTitle } = this.store.get();
    if ((redo ? redoTitle : title) === null) {
      this.toast(t(redo ? "band.redo.none" : "band.undo.none"));
      return;
    }
    try {
      if (redo) await this.http.post("api/redo", { version: session.version ?? 0 });
      else await this.http.post("api/history/undo", { entry: null });
      this.done(
        redo
          ? t("band.redone", { what: redoTitle ?? "" })
          : t("band.undone", { what: title ?? "" }),
      );
      await this.refresh();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Press the main button of the tab, or say why it cannot be pressed. */
  pressPrimary(): void {
    const { primary } = this.store.get();
    if (primary === null) return;
    if (primary.blocked) this.toast(primary.blocked, { kind: "warning" });
    else primary.run();
  }

  /** Say what was done: as a toast, and in the bottom band. */
  done(message: string, undo = false): void {
    this.store.set({ last: message });
    this.toast(message, { undo });
  }

  toast(message: string, options: Partial<Omit<Toast, "id" | "message">> = {}): void {
    const toast: Toast = {
      id: ++this.toastCount,
      message,
      detail: "",
      kind: "done",
      undo: false,
      ...options,
    };
    this.store.set({ toasts: [...this.store.get().toasts.slice(-2), toast] });
    if (toast.kind === "done")
      setTimeout(() => this.dismiss(toast.id), toast.undo ? 12_000 : 6_000);
  }

  dismiss(id: number): void {
    this.store.set({ toasts: this.store.get().toasts.filter((toast) => toast.id !== id) });
  }

  /** Show an error of the server. Errors of the page itself are thrown on. */
  fail(error: unknown): void {
    if (error instanceof DOMException && error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) this.store.set({ connection: "replaced" });
    else if (error.status === 0) this.store.set({ connection: "lost" });
    else this.toast(error.message, { detail: error.hint, kind: "error" });
  }
}
