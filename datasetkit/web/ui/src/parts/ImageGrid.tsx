/** A grid of images of any length with a cursor, for tabs that select nothing. */

import type { KeyboardEvent, ReactNode } from "react";
import { moveOf } from "../geometry";
import { GridRows, type Stepped } from "./GridRows";
import { Thumb } from "./Thumb";

export interface GridImage {
  readonly key: string | number;
  /** "" where there is nothing to show. */
  readonly src: string;
  readonly name: string;
  /** What is wrong with it, in a word; "" for nothing. */
  readonly badge?: string;
  /** What lies on the image, in its box. */
  readonly over?: ReactNode;
}

interface ImageGridProps {
  readonly count: number;
  readonly at: (index: number) => GridImage | undefined;
  readonly need: (from: number, to: number) => void;
  readonly cursor: number;
  readonly moveTo: (index: number) => void;
  readonly open?: (index: number) => void;
  readonly minWidth: number;
  readonly aspect: number;
  readonly label: string;
  /** The list is another one: the cursor is shown again. */
  readonly listKey?: string;
}

export function ImageGrid(props: ImageGridProps) {
  const { count, at, need, cursor, moveTo, open, minWidth, aspect, label, listKey } = props;
  const onKey = (event: KeyboardEvent, stepped: Stepped): boolean => {
    const move = moveOf(event.key);
    if (move && !event.altKey && !event.metaKey && !event.ctrlKey) moveTo(stepped(cursor, move));
    else if (event.key === "Enter" && open && cursor >= 0) open(cursor);
    else return false;
    return true;
  };
  return (
    <GridRows
      className="grid image-grid"
      label={label}
      count={count}
      cursor={cursor}
      minWidth={minWidth}
      aspect={aspect}
      listKey={listKey}
      need={need}
      cellId={cellId}
      onKey={onKey}
      cell={({ index, column, width, scrollIdle }) => {
        const image = at(index);
        return (
          <div
            key={image?.key ?? -index - 1}
            id={cellId(index)}
            className={index === cursor ? "cell active" : "cell"}
            role="gridcell"
            aria-colindex={column + 1}
            aria-selected={index === cursor}
            style={{ width }}
            onClick={() => moveTo(index)}
            onDoubleClick={() => open?.(index)}
          >
            <span className="image-box">
              {image ? <Thumb src={image.src} scrollIdle={scrollIdle} /> : null}
              {image?.over}
            </span>
            <span className="label">
              <span className="name">{image?.name ?? ""}</span>
              {image?.badge ? <span className="missing">{image.badge}</span> : null}
            </span>
          </div>
        );
      }}
    />
  );
}

function cellId(index: number): string {
  return `image-${index}`;
}
