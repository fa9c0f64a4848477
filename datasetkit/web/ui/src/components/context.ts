/** The review that all components share. */

import { createContext, useContext } from "react";
import type { Review } from "../review";
import type { State } from "../state";
import { useStore } from "../store";

export const ReviewContext = createContext<Review | null>(null);

export function useReview(): Review {
  const review = useContext(ReviewContext);
  if (review === null) throw new Error("this component needs a ReviewContext");
  return review;
}

/** A part of the state; see `useStore` for what `select` may return. */
export function useReviewState<Part>(select: (state: State) => Part): Part {
  return useStore(useReview().store, select);
}
