/** A message with elements in it, e.g. a tag in bold: `t("…", {tag: HOLE})` says where it stands. */

import { Fragment, type ReactNode } from "react";

/** The value of a placeholder that an element replaces. */
export const HOLE = "\ufffc";

interface Props {
  readonly text: string;
  /** For the holes, in their order in the text. */
  readonly children: ReactNode | readonly ReactNode[];
}

export function Rich({ text, children }: Props) {
  const elements: readonly ReactNode[] = Array.isArray(children) ? children : [children];
  return text.split(HOLE).map((piece, at) => (
    <Fragment key={at}>
      {piece}
      {elements[at]}
    </Fragment>
  ));
}
