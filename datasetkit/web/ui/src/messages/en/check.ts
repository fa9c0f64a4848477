/** The tab Check. */

export const check = {
  "check.empty": "There are no images to check.",
  "check.empty.hint":
    "Add images first: Check then says what would spoil the training, and fixes it.",
  "check.question": "What is checked?",
  "check.answer":
    "Files that cannot be read, images that are too small, near-duplicates, and captions that are missing, empty or too long.",
  "check.run": { one: "Check {n} image", other: "Check {n} images" },
  "check.again": "Check again",
  "check.started": "Checking",
  "check.never": "Not checked yet.",
  "check.never.hint": "A check reads all images and captions and changes nothing.",
  "check.ran": "Checked {time}.",
  "check.stale": "Checked {time}; something was changed since.",
  "check.quiet": { one: "{n} check found nothing.", other: "{n} checks found nothing." },
  "check.fix.none": "No finding is fixed by a click.",
  "check.clean": "Nothing to fix.",
  "check.severity.error": "error",
  "check.severity.warning": "warning",
  "check.severity.note": "note",
  "check.show": { one: "Show {n}", other: "Show all {n}" },
  "check.fix": { one: "Fix {n}…", other: "Fix {n}…" },
  "check.fix.all": { one: "Fix {n} finding…", other: "Fix {n} findings…" },
  "check.fix.title": "Fix what needs no decision",
  "check.fix.dryRun": "This would change. Nothing is done yet.",
  "check.fix.start": { one: "Make {n} change", other: "Make {n} changes" },
  "check.fixed": { one: "{n} change made", other: "{n} changes made" },
  "check.changes": "Changes",
  "check.more": { one: "and {n} more", other: "and {n} more" },
} as const;
