/** The thumbnail of a grid cell. It is requested when the grid stops scrolling. */

import { useEffect, useState, useSyncExternalStore } from "react";
import type { ScrollIdle } from "../scroll-idle";

interface Props {
  /** "" where there is nothing to show. */
  readonly src: string;
  readonly scrollIdle: ScrollIdle;
  /** What is shown where the image cannot be loaded. */
  readonly fallback?: string;
}

export function Thumb({ src, scrollIdle, fallback = "" }: Props) {
  const idle = useSyncExternalStore(scrollIdle.subscribe, scrollIdle.isIdle);
  const [requested, request] = useState(idle ? src : "");
  const [broken, setBroken] = useState(false);
  useEffect(() => {
    if (!idle || requested === src) return;
    setBroken(false);
    request(src);
  }, [idle, requested, src]);
  if (broken) return <span className="thumb broken">{fallback}</span>;
  if (requested === "") return <span className="thumb" />;
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
