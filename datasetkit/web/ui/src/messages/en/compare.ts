/** The tab Compare. */

export const compare = {
  "compare.empty": "There is no LoRA to compare.",
  "compare.empty.hint": "Train one first: Compare then helps to choose the epoch to keep.",
  "compare.question": "How is an epoch chosen?",
  "compare.answer":
    "The same prompt and seed are drawn with each epoch, and without the LoRA. The epoch to keep shows the subject and still follows the prompt.",
} as const;
