/** The tabs in the order of work. Each is a folder in src/tabs/ and a file of its own, loaded when
 * it is first opened. */

import type { ComponentType } from "react";
// What several tabs share is part of the page itself: a file of its own would be one more request.
import "../parts/SchemaField";
import "../parts/WorkArea";
import "../parts/Primary";
import "../parts/EmptyState";
import "../parts/DropZone";
import type { TabName } from "./facts";

type Loader = () => Promise<{ readonly default: ComponentType }>;

export const LOADERS: Readonly<Record<TabName, Loader>> = {
  images: () => import("../tabs/images"),
  check: () => import("../tabs/check"),
  captions: () => import("../tabs/captions"),
  plan: () => import("../tabs/plan"),
  train: () => import("../tabs/train"),
  watch: () => import("../tabs/watch"),
  compare: () => import("../tabs/compare"),
  history: () => import("../tabs/history"),
};
