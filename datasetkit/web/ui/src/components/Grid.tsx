/** The grid of images, with their selection. */

import { type KeyboardEvent, memo, type MouseEvent, useCallback } from "react";
import { thumbnail } from "../api";
import { moveOf } from "../geometry";
import { number, t } from "../i18n";
import type { Row } from "../listing";
import { type CellPlace, GridRows, type Stepped } from "../parts/GridRows";
import { Thumb } from "../parts/Thumb";
import { useReview, useReviewState } from "./context";
import { Empty } from "./Empty";

export function Grid() {
  const review = useReview();
  const listing = useReviewState((state) => state.listing);
  // Loading a window changes the listing object; the revision tells when.
  useReviewState((state) => state.revision);
  const cursor = useReviewState((state) => state.cursor);
  const selection = useReviewState((state) => state.selection);
  const aspect = useReviewState((state) => state.aspect);
  const minCellWidth = useReviewState((state) => state.minCellWidth);
  const count = listing?.total ?? 0;
  const need = useCallback((from: number, to: number) => listing?.need(from, to), [listing]);

  const onKey = (event: KeyboardEvent, stepped: Stepped): boolean => {
    const move = moveOf(event.key);
    if (move && !event.altKey && !event.metaKey) {
      review.moveTo(stepped(review.store.get().cursor, move), event.shiftKey);
    } else if (event.key === " ") {
      review.toggleSelected(cursor);
    } else if (event.key === "Enter" && count > 0) {
      review.store.set({ view: "image" });
    } else if (event.key === "Escape") {
      review.clear();
    } else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
      void review.selectAll();
    } else {
      return false;
    }
    return true;
  };

  const click = useCallback(
    (index: number, event: MouseEvent) => {
      if (event.shiftKey) review.moveTo(index, true);
      else if (event.ctrlKey || event.metaKey) review.toggleSelected(index);
      else review.moveTo(index);
    },
    [review],
  );
  const open = useCallback(
    (index: number) => {
      review.moveTo(index);
      review.store.set({ view: "image" });
    },
    [review],
  );

  return (
    <GridRows
      id="images"
      className="grid"
      label={t("captions.images")}
      multiselectable
      count={count}
      cursor={cursor}
      minWidth={minCellWidth}
      aspect={aspect}
      listKey={listing?.where}
      need={need}
      cellId={cellId}
      onKey={onKey}
      cell={(place) => {
        const row = listing?.at(place.index);
        return (
          <Cell
            key={row?.id ?? -place.index - 1}
            {...place}
            row={row}
            active={place.index === cursor}
            selected={row !== undefined && selection.ids.has(row.id)}
            click={click}
            open={open}
          />
        );
      }}
    >
      {count === 0 ? <Empty /> : null}
    </GridRows>
  );
}

function cellId(index: number): string {
  return `cell-${index}`;
}

interface CellProps extends CellPlace {
  readonly row: Row | undefined;
  readonly active: boolean;
  readonly selected: boolean;
  readonly click: (index: number, event: MouseEvent) => void;
  readonly open: (index: number) => void;
}

function sameCell(a: CellProps, b: CellProps): boolean {
  return (
    a.index === b.index &&
    a.width === b.width &&
    a.active === b.active &&
    a.selected === b.selected &&
    a.column === b.column &&
    a.row?.id === b.row?.id &&
    a.row?.v === b.row?.v &&
    a.row?.tags === b.row?.tags &&
    a.row?.edited === b.row?.edited
  );
}

const Cell = memo(function Cell({
  row,
  index,
  column,
  width,
  active,
  selected,
  scrollIdle,
  click,
  open,
}: CellProps) {
  return (
    <div
      id={cellId(index)}
      className={`cell${active ? " active" : ""}${selected ? " selected" : ""}`}
      role="gridcell"
      aria-colindex={column + 1}
      aria-selected={selected}
      style={{ width }}
      onClick={(event) => click(index, event)}
      onDoubleClick={() => open(index)}
    >
      <span className="image-box">
        {row ? (
          <Thumb
            src={thumbnail(row.id, row.v)}
            scrollIdle={scrollIdle}
            fallback={t("captions.thumb.none")}
          />
        ) : null}
      </span>
      <span className="label">
        <span className="name">{row?.name ?? ""}</span>
        {row ? (
          <span className={row.tags < 0 ? "missing" : "count"}>
            {row.tags < 0 ? t("captions.noCaption") : number(row.tags)}
          </span>
        ) : null}
        {row && row.tags >= 0 ? (
          <span className="visually-hidden"> {t("captions.tags.unit")}</span>
        ) : null}
        {row?.edited ? (
          <span
            className="edited"
            role="img"
            aria-label={t("captions.edited.byHand")}
            title={t("captions.edited.byHand")}
          />
        ) : null}
      </span>
    </div>
  );
}, sameCell);
