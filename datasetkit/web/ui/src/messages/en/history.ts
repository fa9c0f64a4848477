/** The tab History. */

export const history = {
  "history.empty": "Nothing was changed yet.",
  "history.empty.hint": "Each change of the dataset appears here and can be undone.",
  "history.question": "What can be undone?",
  "history.answer":
    "Everything that dsk wrote into the dataset: captions, renames, moves and exclusions. Results of a training are files of their own.",
} as const;
