/** The list on the left: tags, outliers or suggestions, with a border that can be dragged. */

import { type KeyboardEvent, type PointerEvent, useEffect, useRef, useState } from "react";
import { t } from "../i18n";
import {
  clampWidth,
  DEFAULT_WIDTH,
  MAX_WIDTH,
  MIN_WIDTH,
  storedWidth,
  storeWidth,
  widthAfter,
} from "../sidebar";
import { useReview, useReviewState } from "./context";
import { Outliers } from "./Outliers";
import { Suggestions } from "./Suggestions";
import { TagList } from "./TagList";

export function Sidebar() {
  const review = useReview();
  const sidebar = useReviewState((state) => state.sidebar);
  const frame = useRef<HTMLElement>(null);
  return (
    <nav ref={frame} className="sidebar" aria-label={t(`captions.list.${sidebar}`)}>
      <div className="tabs" role="group" aria-label={t("captions.list")}>
        <button
          type="button"
          className="plain"
          aria-pressed={sidebar === "tags"}
          onClick={() => review.store.set({ sidebar: "tags" })}
        >
          {t("captions.list.tags")}
        </button>
        <button
          type="button"
          className="plain"
          aria-pressed={sidebar === "outliers"}
          onClick={() => void review.openOutliers()}
        >
          {t("captions.list.outliers")} <kbd>o</kbd>
        </button>
        <button
          type="button"
          className="plain"
          aria-pressed={sidebar === "suggestions"}
          onClick={() => void review.openSuggestions()}
        >
          {t("captions.list.suggestions")} <kbd>v</kbd>
        </button>
      </div>
      {sidebar === "tags" ? <TagList /> : sidebar === "outliers" ? <Outliers /> : <Suggestions />}
      <Border frame={frame} />
    </nav>
  );
}

/** The border between list and images. Drag it, or move it with the arrow keys. */
function Border({ frame }: { readonly frame: React.RefObject<HTMLElement | null> }) {
  const [width, setWidth] = useState(storedWidth);
  const dragging = useRef(false);
  useEffect(() => {
    const page = frame.current?.parentElement;
    if (width === null) page?.style.removeProperty("--sidebar");
    else page?.style.setProperty("--sidebar", `${width}px`);
  }, [frame, width]);
  const current = () => width ?? frame.current?.offsetWidth ?? DEFAULT_WIDTH;
  const change = (next: number) => {
    setWidth(next);
    storeWidth(next);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const next = widthAfter(event.key, current());
    if (next === null) return;
    change(next);
    event.preventDefault();
    event.stopPropagation();
  };
  const onPointerDown = (event: PointerEvent<HTMLDivElement>) => {
    dragging.current = true;
    event.currentTarget.setPointerCapture(event.pointerId);
  };
  const onPointerMove = (event: PointerEvent) => {
    if (dragging.current) {
      change(clampWidth(event.clientX - (frame.current?.getBoundingClientRect().left ?? 0)));
    }
  };
  return (
    <div
      className="border"
      role="separator"
      aria-orientation="vertical"
      aria-label={t("captions.list.width")}
      aria-valuemin={MIN_WIDTH}
      aria-valuemax={MAX_WIDTH}
      aria-valuenow={width ?? DEFAULT_WIDTH}
      title={t("captions.list.drag")}
      tabIndex={0}
      onKeyDown={onKeyDown}
      onPointerDown={onPointerDown}
      onPointerMove={onPointerMove}
      onPointerUp={() => {
        dragging.current = false;
      }}
    />
  );
}
