/** The tab History. */

export const history = {
  "history.empty": "Nothing was changed yet.",
  "history.empty.hint": "Each change of the dataset appears here and can be undone.",
  "history.question": "What can be undone?",
  "history.answer":
    "Everything that dsk wrote into the dataset: captions, renames, moves and exclusions. Results of a training are files of their own.",
  "history.when": "When",
  "history.command": "Command",
  "history.what": "What",
  "history.operations": "Files",
  "history.open": "interrupted",
  "history.undone": "undone",
  "history.undone.count": { one: "{n} entry undone", other: "{n} entries undone" },
  "history.changes": "What changed",
  "history.more": { one: "and {n} more", other: "and {n} more" },
  "history.undo": "Undo to here…",
  "history.undo.title": "Undo: {title}",
  "history.undo.what": {
    one: "This entry is undone:",
    other: "This and the newer entries are undone, {n} in all:",
  },
  "history.undo.start": { one: "Undo {n} entry", other: "Undo {n} entries" },
} as const;
