/** Russian. One file for each part of the page. */

import { translation } from "../i18n";
import { captions } from "./ru/captions";
import { check } from "./ru/check";
import { compare } from "./ru/compare";
import { history } from "./ru/history";
import { images } from "./ru/images";
import { plan } from "./ru/plan";
import { shell } from "./ru/shell";
import { start } from "./ru/start";
import { train } from "./ru/train";
import { watch } from "./ru/watch";

export const ru = translation({
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

export { server } from "./ru/server";
