/** The tab Captions. */

export const captions = {
  "captions.empty": "There are no captions yet.",
  "captions.empty.hint": "Add images first; then tag them here.",
  "captions.question": "What is a caption for?",
  "captions.answer":
    "A caption says what is in an image. What it names can be changed later by the prompt; what it leaves out becomes part of the subject.",
} as const;
