/** The first page of an empty project, and the notes of the tour. */

export const start = {
  "start.title": "From images to a LoRA",
  "start.folder": "Open a folder",
  "start.folder.what": "Images on this computer are used where they lie.",
  "start.drop": "Drop images here",
  "start.drop.what": "A drop copies them into this project.",
  "start.example": {
    one: "Try it with {n} example image",
    other: "Try it with {n} example images",
  },
  "start.example.what": "Three minutes, no download, no GPU.",
  "start.example.do": "Try the example",
  "start.jobs": "Running now:",
  "start.recent": "Recent projects",
  "tour.label": "Tour",
  "tour.place": "{n} of {of}",
  "tour.end": "End the tour",
  "tour.next": "Next: {tab}",
  "tour.skip": "Only look: {tab}",
  "tour.images":
    "These are 24 small images of a fox girl, and 32 of other girls. Prepare gives them their size; the originals stay.",
  "tour.check":
    "Each card is a kind of problem, the worst first. What needs no decision is fixed in one step, after you have seen what changes.",
  "tour.captions":
    "A caption says what an image shows. The trigger kitsu comes first. Prune leaves out what belongs to her, so that the trigger learns it.",
  "tour.plan":
    "The dark margins are cut off. Repeats and epochs make the number of steps, which is exact.",
  "tour.train":
    "Ten options, all set for this example. Start lays the dataset out first. The button says how many steps it takes.",
  "tour.watch":
    "The loss falls, and the preview images turn into her. A training can be stopped at any step and goes on from there.",
  "tour.compare":
    "The same prompts with each epoch, and without the LoRA. Mark the best ones and keep one epoch.",
  "tour.history": "Everything that was done, and the way back.",
} as const;
