/** The tab Plan. */

export const plan = {
  "plan.empty": "There is no concept to plan.",
  "plan.empty.hint": "Add images first: Plan then shows buckets, steps and memory exactly.",
  "plan.question": "What is a bucket?",
  "plan.answer":
    "Images of similar shape are trained together. A bucket is one size; an image is scaled to its bucket, and what does not fit is cut off.",
} as const;
