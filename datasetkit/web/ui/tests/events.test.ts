import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Browser, Events, type ServerEvent, streamUrl, union } from "../src/studio/events";
import type { Connection } from "../src/studio/studio";

/** One browser: its tabs share a channel, a lock, and the streams that the server sees. */
class FakeBrowser {
  readonly streams: FakeStream[] = [];
  readonly channels = new Set<FakeChannel>();
  private readonly queue: (() => void)[] = [];
  private held = false;

  constructor(readonly hasLocks: boolean) {}

  get open(): readonly FakeStream[] {
    return this.streams.filter((stream) => stream.readyState !== 2);
  }

  /** A tab that loaded its data at an event's id; "" from a server that gives none. */
  tab(loadedAt = ""): FakeTab {
    return new FakeTab(this, loadedAt);
  }

  readonly locks: NonNullable<Browser["locks"]> = {
    request: (_name, { signal }, held) =>
      new Promise((done, failed) => {
        const run = () => {
          this.held = true;
          void held().then(() => {
            this.held = false;
            this.queue.shift()?.();
            done(undefined);
          });
        };
        if (!this.held) run();
        else this.queue.push(run);
        signal.addEventListener("abort", () => {
          const at = this.queue.indexOf(run);
          if (at < 0) return;
          this.queue.splice(at, 1);
          failed(new Error("aborted"));
        });
      }),
  };
}

class FakeStream {
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  readyState = 0;
  private readonly listeners = new Map<string, (event: MessageEvent<string>) => void>();

  constructor(readonly url: string) {}

  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void {
    this.listeners.set(type, listener);
  }

  send(type: string, id: string, data: object = {}): void {
    const message = { data: JSON.stringify(data), lastEventId: id } as MessageEvent<string>;
    this.listeners.get(type)?.(message);
  }

  close(): void {
    this.readyState = 2;
  }
}

class FakeChannel {
  onmessage: ((event: { readonly data: never }) => void) | null = null;

  constructor(private readonly browser: FakeBrowser) {
    browser.channels.add(this);
  }

  postMessage(message: unknown): void {
    if (!this.browser.channels.has(this)) return;
    for (const other of this.browser.channels) {
      if (other !== this) other.onmessage?.({ data: structuredClone(message) as never });
    }
  }

  close(): void {
    this.browser.channels.delete(this);
  }
}

class FakeTab {
  visible = true;
  changed: () => void = () => {};
  readonly received: ServerEvent[] = [];
  readonly connections: Connection[] = [];
  readonly events: Events;

  constructor(browser: FakeBrowser, loadedAt: string) {
    this.events = new Events(
      {
        openStream: (url) => {
          const stream = new FakeStream(url);
          browser.streams.push(stream);
          return stream;
        },
        openChannel: () => new FakeChannel(browser) as never,
        locks: browser.hasLocks ? browser.locks : undefined,
        now: () => Date.now(),
        isVisible: () => this.visible,
        onVisibility: (changed) => {
          this.changed = changed;
          return () => {};
        },
      },
      (connection) => this.connections.push(connection),
      loadedAt,
    );
    this.events.on((event) => this.received.push(event));
    this.events.start();
  }

  show(visible: boolean): void {
    this.visible = visible;
    this.changed();
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());
const wait = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);

test.each([true, false])("tabs of one browser share one stream (locks: %s)", async (locks) => {
  const browser = new FakeBrowser(locks);
  const tabs = [browser.tab()];
  await wait(900);
  for (let more = 0; more < 7; more++) tabs.push(browser.tab());
  await wait(5000);
  expect(browser.open).toHaveLength(1);
  expect(browser.streams).toHaveLength(1);
  browser.open[0]?.send("job", "9.1", { id: "a" });
  for (const tab of tabs) expect(tab.received.map((event) => event.id)).toEqual(["9.1"]);
});

test.each([true, false])("the next tab goes on from the same id (locks: %s)", async (locks) => {
  const browser = new FakeBrowser(locks);
  const first = browser.tab();
  await wait(900);
  const second = browser.tab();
  await wait(2000);
  browser.open[0]?.send("metrics", "9.k3:500", {});
  first.events.stop();
  await wait(5000);
  expect(second.events.isLeader).toBe(true);
  expect(browser.open.map((stream) => stream.url)).toEqual(["api/events?after=9.k3%3A500"]);
});

test("a tab that ends without a word is followed by another, without locks too", async () => {
  const browser = new FakeBrowser(false);
  const first = browser.tab();
  await wait(900);
  const second = browser.tab();
  await wait(1000);
  expect([first.events.isLeader, second.events.isLeader]).toEqual([true, false]);
  // It crashed: it says nothing, and its stream ends.
  const [channel] = browser.channels;
  if (channel) browser.channels.delete(channel);
  await wait(6000);
  expect(second.events.isLeader).toBe(true);
});

test.each([true, false])("a tab that is hidden for a minute closes (locks: %s)", async (locks) => {
  const browser = new FakeBrowser(locks);
  const tab = browser.tab();
  await wait(900);
  tab.show(false);
  await wait(30_000);
  expect(browser.open).toHaveLength(1);
  await wait(35_000);
  expect(browser.open).toHaveLength(0);
  tab.show(true);
  await wait(1500);
  expect(browser.open).toHaveLength(1);
});

test("without locks, a visible tab leads before a hidden one that is older", async () => {
  const browser = new FakeBrowser(false);
  const first = browser.tab();
  await wait(900);
  const second = browser.tab();
  await wait(1200);
  first.show(false);
  await wait(2500);
  expect([first.events.isLeader, second.events.isLeader]).toEqual([false, true]);
  expect(browser.open).toHaveLength(1);
});

test("the leader asks for what all tabs look at, and opens again when that changes", async () => {
  const browser = new FakeBrowser(true);
  const first = browser.tab();
  const second = browser.tab();
  await wait(900);
  const stop = second.events.want({ runs: ["k3"], logs: [] });
  first.events.want({ runs: ["k2", "k3"], logs: ["j1"] });
  await wait(50);
  expect(browser.open.map((stream) => stream.url)).toEqual(["api/events?watch=k2,k3&log=j1"]);
  const before = browser.streams.length;
  stop();
  await wait(2000);
  expect(browser.streams).toHaveLength(before);
});

test("an interruption is shown after a moment, and its end at once", async () => {
  const browser = new FakeBrowser(true);
  const tab = browser.tab();
  await wait(900);
  const [stream] = browser.open;
  stream?.onopen?.();
  stream?.onerror?.();
  await wait(1000);
  expect(tab.connections).toEqual(["live"]);
  await wait(2500);
  expect(tab.connections).toEqual(["live", "lost"]);
  stream?.onopen?.();
  expect(tab.connections).toEqual(["live", "lost", "live"]);
});

test("a stream that the server refused is opened again", async () => {
  const browser = new FakeBrowser(true);
  browser.tab();
  await wait(900);
  const [stream] = browser.open;
  stream?.send("hello", "7.a");
  stream?.close();
  stream?.onerror?.();
  await wait(1600);
  expect(browser.open.map((open) => open.url)).toEqual(["api/events?after=7.a"]);
});

test("a stream that does not know the last id asks for a reload, the first one too", async () => {
  const browser = new FakeBrowser(true);
  const tab = browser.tab();
  await wait(900);
  browser.open[0]?.send("hello", "1.a", { resumed: false });
  tab.events.want({ runs: ["k"], logs: [] });
  await wait(10);
  browser.open[0]?.send("hello", "1.b", { resumed: true });
  expect(tab.received.map((event) => event.data["resumed"])).toEqual([false, true]);
});

test.each([true, false])(
  "a tab that only followed another one goes on from what it has (locks: %s)",
  async (locks) => {
    const browser = new FakeBrowser(locks);
    const first = browser.tab("1.a");
    await wait(900);
    const second = browser.tab("1.b");
    await wait(2000);
    expect(browser.streams.map((stream) => stream.url)).toEqual(["api/events?after=1.a"]);
    // No event came while it followed: it has what it loaded itself.
    first.events.stop();
    await wait(5000);
    expect(browser.open.map((stream) => stream.url)).toEqual(["api/events?after=1.b"]);
    browser.open[0]?.send("files", "1.c", { config: "x" });
    const third = browser.tab("1.c");
    await wait(2000);
    second.events.stop();
    await wait(5000);
    expect(browser.open.map((stream) => stream.url)).toEqual(["api/events?after=1.c"]);
    expect(third.received).toEqual([]);
    expect(second.received.map((event) => event.id)).toEqual(["1.c"]);
  },
);

test("what is wanted twice is asked for once", () => {
  const wanted = union([
    { runs: ["b", "a"], logs: [] },
    { runs: ["a"], logs: ["x y"] },
  ]);
  expect(streamUrl(wanted)).toBe("api/events?watch=a,b&log=x%20y");
  expect(streamUrl(union([]))).toBe("api/events");
});
