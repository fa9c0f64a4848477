/** The handle of a before/after slider: it is dragged, or moved with the arrow keys. */

import { type KeyboardEvent, type PointerEvent, useRef } from "react";
import { Icon } from "../components/Icon";
import { percent } from "../i18n";

interface SplitHandleProps {
  /** Share of the pane that shows the left image. */
  readonly split: number;
  readonly setSplit: (split: number) => void;
  readonly label: string;
  readonly left: string;
  readonly right: string;
}

/** Where the arrow keys move the handle: 1 %, with Shift 10 %. */
export function movedSplit(split: number, key: string, shift: boolean): number | null {
  const by = shift ? 0.1 : 0.01;
  const to: Readonly<Record<string, number>> = {
    ArrowLeft: split - by,
    ArrowDown: split - by,
    ArrowRight: split + by,
    ArrowUp: split + by,
    Home: 0,
    End: 1,
  };
  const moved = to[key];
  return moved === undefined ? null : Math.min(1, Math.max(0, moved));
}

export function SplitHandle({ split, setSplit, label, left, right }: SplitHandleProps) {
  const dragging = useRef(false);
  const onPointerDown = (event: PointerEvent) => {
    dragging.current = true;
    event.stopPropagation();
    event.currentTarget.setPointerCapture(event.pointerId);
  };
  const onPointerMove = (event: PointerEvent) => {
    const pane = event.currentTarget.parentElement;
    if (!dragging.current || !pane) return;
    event.stopPropagation();
    const box = pane.getBoundingClientRect();
    setSplit(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };
  const onPointerUp = () => {
    dragging.current = false;
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const to = movedSplit(split, event.key, event.shiftKey);
    if (to === null) return;
    event.preventDefault();
    event.stopPropagation();
    setSplit(to);
  };
  return (
    <div
      className="split-handle"
      role="slider"
      aria-label={label}
      aria-orientation="horizontal"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(split * 100)}
      aria-valuetext={`${left} ${percent(split)}, ${right} ${percent(1 - split)}`}
      tabIndex={0}
      style={{ left: `${split * 100}%` }}
      onPointerDown={onPointerDown}
      onPointerMove={onPointerMove}
      onPointerUp={onPointerUp}
      onPointerCancel={onPointerUp}
      onDoubleClick={(event) => event.stopPropagation()}
      onKeyDown={onKeyDown}
    >
      <span className="split-grip">
        <Icon name="left" />
        <Icon name="right" />
      </span>
    </div>
  );
}
