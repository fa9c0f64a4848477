/** The review that every part of the page works on. */

import { createContext, useContext } from "react";
import type { Review } from "../review";
import type { State } from "../state";
import { useStore } from "../store";

export const ReviewContext = createContext<Review | null>(null);

export function useReview(): Review {
  const review = useContext(ReviewContext);
  if (review === null) throw new Error("no review around this part");
  return review;
}

/** A part of the state; see `useStore` for what it must be. */
export function useReviewState<Part>(part: (state: State) => Part): Part {
  return useStore(useReview().store, part);
}
