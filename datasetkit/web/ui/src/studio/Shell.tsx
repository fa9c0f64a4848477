/** The window: a band with the tabs, the work area, a band with the last action and its command. */

import { type ComponentType, lazy, Suspense, useEffect } from "react";
import { Icon } from "../components/Icon";
import { number, percent, t, useLanguage } from "../i18n";
import { isTextField } from "../keys";
import { CommandLine } from "../parts/CommandLine";
import { Loading } from "../parts/Loading";
import { useStore } from "../store";
import { themeStore, toggleTheme } from "../theme";
import { StudioContext, useStudio, useStudioState } from "./context";
import { TAB_NAMES, type TabName, type TabState, tabState } from "./facts";
import { Help } from "./Help";
import { JobsButton, JobsDialog } from "./Jobs";
import { actionFor, type ShellAction } from "./keys";
import { Note } from "./Note";
import { Palette } from "./Palette";
import { go, neighbor, routeStore } from "./route";
import type { Studio } from "./studio";
import { LOADERS } from "./tabs";
import { Toasts } from "./Toasts";

const PAGES = Object.fromEntries(
  TAB_NAMES.map((name) => [name, lazy(LOADERS[name])]),
) as unknown as Readonly<Record<TabName, ComponentType>>;

export function Shell({ studio }: { readonly studio: Studio }) {
  return (
    <StudioContext value={studio}>
      <Bands />
    </StudioContext>
  );
}

function Bands() {
  const studio = useStudio();
  const language = useLanguage();
  const tab = useStore(routeStore, (route) => route.tab);
  const overlay = useStudioState((state) => state.overlay);
  const close = () => studio.store.set({ overlay: null });

  useEffect(() => {
    // On the window: a tab handles its keys on the document, before.
    const onKeyDown = (event: KeyboardEvent) => handleKey(studio, event);
    addEventListener("keydown", onKeyDown);
    addEventListener("keydown", onKeyDown, true);
    return () => {
      removeEventListener("keydown", onKeyDown);
      removeEventListener("keydown", onKeyDown, true);
    };
  }, [studio]);
  useEffect(() => studio.store.set({ drawerOpen: false }), [studio, tab]);

  const Page = PAGES[tab];
  return (
    <div className="studio" key={language}>
      <TopBand tab={tab} />
      <main>
        <div id="work" role="tabpanel" aria-labelledby={`tab-${tab}`} tabIndex={-1}>
          <Suspense fallback={<Loading />}>
            <Page />
          </Suspense>
          <Note tab={tab} />
          <Toasts />
        </div>
      </main>
      <BottomBand />
      {overlay === "help" ? <Help close={close} /> : null}
      {overlay === "jobs" ? <JobsDialog close={close} /> : null}
      {overlay === "palette" ? <Palette close={close} /> : null}
    </div>
  );
}

function TopBand({ tab }: { readonly tab: TabName }) {
  const studio = useStudio();
  const session = useStudioState((state) => state.session);
  const project = useStudioState((state) => state.project);
  const undo = useStudioState((state) => state.undo);
  const theme = useStore(themeStore, (state) => state.theme);
  const jobs = useStudioState((state) => state.jobs);
  const states = project ? tabState(project, jobs) : null;
  const dark = theme === "dark";
  return (
    <header className="top-band">
      <h1 title={session.root}>{session.name}</h1>
      <div className="studio-tabs" role="tablist" aria-label={t("tabs.label")} onKeyDown={onTabKey}>
        {TAB_NAMES.map((name) => (
          <TabButton
            key={name}
            name={name}
            selected={name === tab}
            state={states?.[name] ?? { kind: "empty" }}
          />
        ))}
      </div>
      <div className="band-buttons">
        {session.read_only ? <span className="badge">{t("band.readOnly")}</span> : null}
        <JobsButton />
        <button
          type="button"
          className="plain icon-only"
          disabled={undo === null || session.read_only}
          title={undo === null ? t("band.undo.none") : t("band.undo.what", { what: undo })}
          aria-label={t("band.undo")}
          onClick={() => void studio.undo()}
        >
          <Icon name="undo" />
        </button>
        <button
          type="button"
          className="plain icon-only"
          title={`${t("band.help")} (?)`}
          aria-label={t("band.help")}
          onClick={() => studio.store.set({ overlay: "help" })}
        >
          <Icon name="help" />
        </button>
        <button
          type="button"
          className="plain icon-only"
          title={`${dark ? t("band.theme.light") : t("band.theme.dark")} (m)`}
          aria-label={dark ? t("band.theme.light") : t("band.theme.dark")}
          onClick={toggleTheme}
        >
          <Icon name={dark ? "light" : "dark"} />
        </button>
      </div>
    </header>
  );
}

interface TabButtonProps {
  readonly name: TabName;
  readonly selected: boolean;
  readonly state: TabState;
}

function TabButton({ name, selected, state }: TabButtonProps) {
  const label = t(`tab.${name}`);
  return (
    <button
      type="button"
      role="tab"
      id={`tab-${name}`}
      className={`tab is-${state.kind}`}
      aria-selected={selected}
      aria-controls="work"
      title={stateText(state)}
      tabIndex={selected ? 0 : -1}
      onClick={() => go(name)}
    >
      <TabMark state={state} />
      {label}
      <span className="visually-hidden">: {stateText(state)}</span>
    </button>
  );
}

function stateText(state: TabState): string {
  if (state.kind === "attention") return t("state.attention", { n: state.count });
  if (state.kind === "running" && state.share !== null) {
    return t("state.running.share", { share: percent(state.share) });
  }
  return t(`state.${state.kind}`);
}

/** The state as a shape: never by color alone. */
function TabMark({ state }: { readonly state: TabState }) {
  if (state.kind === "running") {
    return (
      <span className="tab-mark number" aria-hidden="true">
        {state.share === null ? "…" : percent(state.share)}
      </span>
    );
  }
  return (
    <span className="tab-mark" aria-hidden="true">
      <svg width="12" height="12" viewBox="0 0 12 12" focusable="false">
        {MARKS[state.kind]}
      </svg>
      {state.kind === "attention" ? number(state.count) : null}
    </span>
  );
}

const MARKS = {
  empty: <circle cx="6" cy="6" r="3.5" fill="none" stroke="currentColor" strokeWidth="1.4" />,
  ready: <circle cx="6" cy="6" r="4" fill="currentColor" />,
  attention: <path d="M6 1.5 11.2 10.5H.8z" fill="currentColor" />,
  done: <path d="M1.5 6.5 4.7 9.7 10.5 2.8" fill="none" stroke="currentColor" strokeWidth="1.8" />,
};

/** In a list of tabs the arrow keys, Home and End move; the tab opens at once. */
function onTabKey(event: React.KeyboardEvent): void {
  const { tab } = routeStore.get();
  const last = TAB_NAMES[TAB_NAMES.length - 1] ?? tab;
  const next =
    event.key === "ArrowRight"
      ? neighbor(tab, 1)
      : event.key === "ArrowLeft"
        ? neighbor(tab, -1)
        : event.key === "Home"
          ? (TAB_NAMES[0] ?? tab)
          : event.key === "End"
            ? last
            : null;
  if (next === null) return;
  event.preventDefault();
  event.stopPropagation();
  go(next);
  document.getElementById(`tab-${next}`)?.focus();
}

function BottomBand() {
  const last = useStudioState((state) => state.last);
  // Of the project: in Captions, undo is that of its own edits.
  const undo = useStudioState((state) => state.project?.history.undo);
  const command = useStudioState((state) => state.command);
  const connection = useStudioState((state) => state.connection);
  const problem =
    connection === "replaced"
      ? t("server.new")
      : connection === "lost" || connection === "ended"
        ? t("server.gone")
        : "";
  return (
    <footer className="bottom-band">
      <p className="last" role="status" aria-live="polite">
        {problem ? <b className="error-text">{problem}</b> : last || undo || t("band.last.none")}
      </p>
      {command ? <CommandLine command={command} /> : null}
    </footer>
  );
}

function handleKey(studio: Studio, event: KeyboardEvent): void {
  if (event.defaultPrevented) return;
  const action = actionFor(event);
  if (action === null) return;
  const target = event.target instanceof HTMLElement ? event.target : document.body;
  const type = target.getAttribute("type") ?? "text";
  const typing = isTextField(target.tagName, type, target.isContentEditable);
  if (target.closest("dialog") || (typing && !action.inText)) return;
  // To a list Ctrl Enter is Enter: the main button comes before it, but after a field of text.
  const isEarly = event.eventPhase === Event.CAPTURING_PHASE;
  if (isEarly && (typing || action.name !== "primary")) return;
  event.preventDefault();
  if (isEarly) event.stopPropagation();
  ACTIONS[action.name](studio);
}

const ACTIONS: Readonly<Record<ShellAction, (studio: Studio) => unknown>> = {
  previous: () => go(neighbor(routeStore.get().tab, -1)),
  next: () => go(neighbor(routeStore.get().tab, 1)),
  primary: (studio) => studio.pressPrimary(),
  palette: (studio) => studio.store.set({ overlay: "palette" }),
  jobs: (studio) => studio.store.set({ overlay: "jobs" }),
  history: () => go("history"),
  search: () => document.querySelector<HTMLElement>("#work [type=search]")?.focus(),
  details: (studio) => studio.store.set({ drawerOpen: !studio.store.get().drawerOpen }),
  undo: (studio) => studio.undo(),
  redo: (studio) => studio.undo(true),
  theme: toggleTheme,
  help: (studio) => studio.store.set({ overlay: "help" }),
};
