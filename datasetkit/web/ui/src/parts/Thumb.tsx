/** One image of the grid: it asks for its bytes once the grid rests, and says so where there are none. */

import { useEffect, useState, useSyncExternalStore } from "react";
import { thumbnail } from "../api";
import type { Settle } from "../settle";

export function Thumb({
  id,
  v,
  settle,
}: {
  readonly id: number;
  readonly v: string;
  readonly settle: Settle;
}) {
  const rested = useSyncExternalStore(settle.subscribe, settle.atRest);
  const address = thumbnail(id, v);
  const [asked, ask] = useState(rested ? address : null);
  const [broken, setBroken] = useState(false);
  useEffect(() => {
    if (!rested || asked === address) return;
    setBroken(false);
    ask(address);
  }, [rested, asked, address]);
  if (broken) return <span className="thumb broken">no preview</span>;
  // Alternative text is empty: the cell around it carries the name.
  return asked ? (
    <img
      className="thumb"
      src={asked}
      alt=""
      draggable={false}
      decoding="async"
      onError={() => setBroken(true)}
    />
  ) : (
    <span className="thumb" />
  );
}
