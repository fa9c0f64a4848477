/** The tab Train. */

export const train = {
  "train.empty": "There is no dataset to train on.",
  "train.empty.hint": "Add images first; the options of the training can then be set here.",
  "train.question": "What do the options mean?",
  "train.answer":
    "Ten options decide most of the result; each says what is usual. All others can be searched by name.",
} as const;
