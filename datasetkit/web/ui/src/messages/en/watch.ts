/** The tab Watch. */

export const watch = {
  "watch.empty": "No training has run here.",
  "watch.empty.hint":
    "Start one in Train, or run `dsk train` in a terminal: it appears here by itself.",
  "watch.question": "How is a loss read?",
  "watch.answer":
    "The loss falls quickly, then slowly, and is noisy from step to step. The loss on held-out images says when more training no longer helps.",
} as const;
