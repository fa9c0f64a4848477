/** English, and the type of the other languages. One file for each part of the page. */

import { captions } from "./en/captions";
import { check } from "./en/check";
import { compare } from "./en/compare";
import { history } from "./en/history";
import { images } from "./en/images";
import { plan } from "./en/plan";
import { shell } from "./en/shell";
import { start } from "./en/start";
import { train } from "./en/train";
import { watch } from "./en/watch";

export const en = {
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
} as const;
