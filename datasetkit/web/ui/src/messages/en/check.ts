/** The tab Check. */

export const check = {
  "check.empty": "There are no images to check.",
  "check.empty.hint":
    "Add images first: Check then says what would spoil the training, and fixes it.",
  "check.question": "What is checked?",
  "check.answer":
    "Files that cannot be read, images that are too small, near-duplicates, and captions that are missing, empty or too long.",
} as const;
