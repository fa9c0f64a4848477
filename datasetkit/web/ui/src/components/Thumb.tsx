/** The thumbnail of a grid cell. It is requested when the grid stops scrolling. */

import { useEffect, useState, useSyncExternalStore } from "react";
import { thumbnail } from "../api";
import type { ScrollIdle } from "../scroll-idle";

interface Props {
  readonly id: number;
  readonly v: string;
  readonly scrollIdle: ScrollIdle;
}

export function Thumb({ id, v, scrollIdle }: Props) {
  const idle = useSyncExternalStore(scrollIdle.subscribe, scrollIdle.isIdle);
  const url = thumbnail(id, v);
  const [requested, request] = useState(idle ? url : null);
  const [broken, setBroken] = useState(false);
  useEffect(() => {
    if (!idle || requested === url) return;
    setBroken(false);
    request(url);
  }, [idle, requested, url]);
  if (broken) return <span className="thumb broken">no preview</span>;
  if (!requested) return <span className="thumb" />;
  return (
    <img
      className="thumb"
      src={requested}
      alt="" // The cell around it has the name.
      draggable={false}
      decoding="async"
      onError={() => setBroken(true)}
    />
  );
}
