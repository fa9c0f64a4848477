/**
 * The events of the server: one stream for all tabs of a browser. One tab leads, opens the stream
 * and passes it on; when it goes, or is hidden for a minute, the next one goes on from the same id.
 *
 * The leader is who holds a Web Lock. Through plain http from another machine there are no locks:
 * then it is the visible tab that is the oldest, by heartbeats on the channel between the tabs.
 */

import type { Connection } from "./studio";

/** An event as the server sends it. */
export interface ServerEvent {
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly id: string;
}

/** What tabs look at, so that the server reads no more than that. */
export interface Wanted {
  readonly runs: readonly string[];
  readonly logs: readonly string[];
}

export const EVENT_TYPES = ["hello", "job", "metrics", "files", "log", "bye"] as const;

type TabMessage =
  | { readonly kind: "event"; readonly event: ServerEvent }
  | { readonly kind: "connection"; readonly connection: Connection }
  | {
      readonly kind: "alive";
      readonly tab: string;
      readonly opened: number;
      readonly visible: boolean;
      readonly wanted: Wanted;
    }
  /** A tab begins: the others say that they are alive. */
  | { readonly kind: "who" }
  | { readonly kind: "gone"; readonly tab: string };

interface Stream {
  onopen: (() => void) | null;
  onerror: (() => void) | null;
  readonly readyState: number;
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void;
  close(): void;
}

interface Channel {
  onmessage: ((event: { readonly data: TabMessage }) => void) | null;
  postMessage(message: TabMessage): void;
  close(): void;
}

interface Locks {
  request(
    name: string,
    options: { readonly signal: AbortSignal },
    held: () => Promise<void>,
  ): Promise<unknown>;
}

/** What the browser gives; tests give their own. */
export interface Browser {
  openStream(url: string): Stream;
  openChannel(): Channel | null;
  readonly locks: Locks | undefined;
  readonly now: () => number;
  isVisible(): boolean;
  onVisibility(changed: () => void): () => void;
}

export const HEARTBEAT = 1000;
/** Milliseconds without a heartbeat after which a tab counts as gone. */
const GONE = 3500;
const HIDDEN = 60_000;
/** Milliseconds that the other tabs have to answer, busy ones too. */
const FIRST_CHECK = 800;
const RETRY = 1500;
/** Milliseconds until an interruption is shown. */
const SHOWN_AFTER = 3000;
const CLOSED = 2;

interface Other {
  readonly opened: number;
  readonly visible: boolean;
  readonly wanted: Wanted;
  readonly seen: number;
}

export class Events {
  private readonly tab = Math.random().toString(36).slice(2);
  private readonly opened: number;
  private readonly listeners = new Set<(event: ServerEvent) => void>();
  private readonly others = new Map<string, Other>();
  private channel: Channel | null = null;
  private stream: Stream | null = null;
  private streamUrl = "";
  private leads = false;
  private wantedHere = new Map<object, Wanted>();
  private releaseLock: (() => void) | null = null;
  private lockRequest: AbortController | null = null;
  private hiddenSince: number | null = null;
  private timers: ReturnType<typeof setInterval>[] = [];
  private lostTimer: ReturnType<typeof setTimeout> | undefined;
  private stopVisibility: () => void = () => {};

  constructor(
    private readonly browser: Browser,
    private readonly onConnection: (connection: Connection) => void,
    /** The id to go on from: of the time before anything was loaded, then of the last event. Also
     * of a tab that has followed another one's stream so far: so it misses nothing. */
    private lastId: string,
  ) {
    this.opened = browser.now();
  }

  start(): void {
    this.channel = this.browser.openChannel();
    if (this.channel) this.channel.onmessage = ({ data }) => this.receive(data);
    this.hiddenSince = this.browser.isVisible() ? null : this.browser.now();
    this.stopVisibility = this.browser.onVisibility(() => {
      this.hiddenSince = this.browser.isVisible() ? null : this.browser.now();
      this.sayAlive();
      this.check();
    });
    this.channel?.postMessage({ kind: "who" });
    this.sayAlive();
    this.timers = [
      setInterval(() => {
        this.sayAlive();
        this.check();
      }, HEARTBEAT),
    ];
    // Without locks the others need a moment to answer.
    if (this.browser.locks) this.check();
    else setTimeout(() => this.check(), FIRST_CHECK);
  }

  stop(): void {
    for (const timer of this.timers) clearInterval(timer);
    this.stopVisibility();
    this.channel?.postMessage({ kind: "gone", tab: this.tab });
    this.resign();
    this.channel?.close();
    this.channel = null;
  }

  get isLeader(): boolean {
    return this.leads;
  }

  /** Call the listener for each event; the result stops it. */
  on(listener: (event: ServerEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Ask for the metrics of runs and the logs of jobs; the result gives them back. */
  want(wanted: Wanted): () => void {
    const key = {};
    this.wantedHere.set(key, wanted);
    this.changed();
    return () => {
      this.wantedHere.delete(key);
      this.changed();
    };
  }

  private changed(): void {
    this.sayAlive();
    if (this.leads) this.openIfChanged();
  }

  private wanted(): Wanted {
    return union([...this.wantedHere.values()]);
  }

  private sayAlive(): void {
    this.channel?.postMessage({
      kind: "alive",
      tab: this.tab,
      opened: this.opened,
      visible: this.hiddenSince === null,
      wanted: this.wanted(),
    });
  }

  private receive(message: TabMessage): void {
    switch (message.kind) {
      case "who":
        this.sayAlive();
        return;
      case "gone":
        this.others.delete(message.tab);
        this.check();
        return;
      case "alive": {
        const { opened, visible, wanted } = message;
        this.others.set(message.tab, { opened, visible, wanted, seen: this.browser.now() });
        if (this.leads) this.openIfChanged();
        return;
      }
      case "connection":
        if (!this.leads) this.onConnection(message.connection);
        return;
      case "event":
        if (!this.leads) this.deliver(message.event);
    }
  }

  private deliver(event: ServerEvent): void {
    if (event.id !== "") this.lastId = event.id;
    for (const listener of [...this.listeners]) listener(event);
  }

  // -- who leads

  private check(): void {
    const now = this.browser.now();
    for (const [tab, other] of this.others) {
      if (now - other.seen > GONE) this.others.delete(tab);
    }
    const hidden = this.hiddenSince !== null && now - this.hiddenSince >= HIDDEN;
    if (this.browser.locks) {
      if (hidden) this.resign();
      else this.requestLock(this.browser.locks);
    } else if (!hidden && this.isFirst()) {
      this.lead();
    } else {
      this.resign();
    }
    if (this.leads) this.openIfChanged();
  }

  /** Whether this tab comes before all others: visible ones first, then the oldest. */
  private isFirst(): boolean {
    const rank = (visible: boolean, opened: number, tab: string) =>
      [visible ? 0 : 1, opened, tab] as const;
    const own = rank(this.hiddenSince === null, this.opened, this.tab);
    return [...this.others].every(([tab, other]) => {
      const theirs = rank(other.visible, other.opened, tab);
      for (let at = 0; at < 3; at++) {
        const mine = own[at] ?? 0;
        const their = theirs[at] ?? 0;
        if (mine !== their) return mine < their;
      }
      return true;
    });
  }

  private requestLock(locks: Locks): void {
    if (this.lockRequest) return;
    const request = new AbortController();
    this.lockRequest = request;
    locks
      .request("dsk-events", { signal: request.signal }, () => {
        if (request.signal.aborted) return Promise.resolve();
        this.lead();
        return new Promise<void>((release) => {
          this.releaseLock = release;
        });
      })
      .catch(() => {
        // Aborted: this tab was hidden or closed before it led.
      });
  }

  private lead(): void {
    if (this.leads) return;
    this.leads = true;
    this.openIfChanged();
  }

  private resign(): void {
    this.lockRequest?.abort();
    this.lockRequest = null;
    this.releaseLock?.();
    this.releaseLock = null;
    this.leads = false;
    this.close();
  }

  // -- the stream

  private openIfChanged(): void {
    const wanted = union([this.wanted(), ...[...this.others.values()].map((o) => o.wanted)]);
    const url = streamUrl(wanted);
    if (this.stream && url === this.streamUrl) return;
    this.open(url);
  }

  private open(url: string): void {
    this.close();
    this.streamUrl = url;
    const after = this.lastId === "" ? "" : `after=${encodeURIComponent(this.lastId)}`;
    const stream = this.browser.openStream(
      [url, after].filter(Boolean).join(url.includes("?") ? "&" : "?"),
    );
    this.stream = stream;
    stream.onopen = () => this.tell("live");
    stream.onerror = () => this.interrupted(stream);
    for (const type of EVENT_TYPES) {
      stream.addEventListener(type, (message) => {
        if (stream !== this.stream) return;
        const event: ServerEvent = {
          type,
          data: JSON.parse(message.data) as ServerEvent["data"],
          id: message.lastEventId,
        };
        this.channel?.postMessage({ kind: "event", event });
        this.deliver(event);
        if (type === "bye") this.tell("ended");
      });
    }
  }

  private close(): void {
    clearTimeout(this.lostTimer);
    this.lostTimer = undefined;
    this.stream?.close();
    this.stream = null;
  }

  /** The browser connects again by itself, unless the server refused. */
  private interrupted(stream: Stream): void {
    if (stream !== this.stream) return;
    this.lostTimer ??= setTimeout(() => this.tell("lost"), SHOWN_AFTER);
    if (stream.readyState === CLOSED) {
      setTimeout(() => {
        if (stream === this.stream && this.leads) this.open(this.streamUrl);
      }, RETRY);
    }
  }

  private tell(connection: Connection): void {
    clearTimeout(this.lostTimer);
    this.lostTimer = undefined;
    this.channel?.postMessage({ kind: "connection", connection });
    this.onConnection(connection);
  }
}

export function union(wanted: readonly Wanted[]): Wanted {
  return {
    runs: [...new Set(wanted.flatMap((one) => one.runs))].sort(),
    logs: [...new Set(wanted.flatMap((one) => one.logs))].sort(),
  };
}

export function streamUrl({ runs, logs }: Wanted): string {
  const query = [
    runs.length ? `watch=${runs.map(encodeURIComponent).join(",")}` : "",
    logs.length ? `log=${logs.map(encodeURIComponent).join(",")}` : "",
  ].filter(Boolean);
  return query.length ? `api/events?${query.join("&")}` : "api/events";
}

/** The browser that shows the page. */
export function realBrowser(): Browser {
  return {
    openStream: (url) => new EventSource(url) as unknown as Stream,
    openChannel: () =>
      "BroadcastChannel" in window
        ? (new BroadcastChannel("dsk-events") as unknown as Channel)
        : null,
    locks: navigator.locks as unknown as Locks | undefined,
    now: () => Date.now(),
    isVisible: () => document.visibilityState === "visible",
    onVisibility: (changed) => {
      document.addEventListener("visibilitychange", changed);
      return () => document.removeEventListener("visibilitychange", changed);
    },
  };
}
