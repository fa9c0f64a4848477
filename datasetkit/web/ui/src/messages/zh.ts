/** Simplified Chinese. One file for each part of the page. */

import { translation } from "../i18n";
import { captions } from "./zh/captions";
import { check } from "./zh/check";
import { compare } from "./zh/compare";
import { history } from "./zh/history";
import { images } from "./zh/images";
import { plan } from "./zh/plan";
import { shell } from "./zh/shell";
import { start } from "./zh/start";
import { train } from "./zh/train";
import { watch } from "./zh/watch";

export const zh = translation({
  ...shell,
  ...images,
  ...check,
  ...captions,
  ...plan,
  ...start,
  ...train,
  ...watch,
  ...compare,
  ...history,
});

export { server } from "./zh/server";
