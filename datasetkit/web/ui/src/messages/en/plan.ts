/** The tab Plan. */

export const plan = {
  "plan.empty": "There is no concept to plan.",
  "plan.empty.hint": "Add images first: Plan then shows buckets, steps and memory exactly.",
  "plan.question": "What is a bucket?",
  "plan.answer":
    "Images of similar shape are trained together. A bucket is one size; an image is scaled to its bucket, and what does not fit is cut off.",
  "plan.repeats": "repeats",
  "plan.samples": { one: "{n} sample an epoch", other: "{n} samples an epoch" },
  "plan.steps": { one: "{n} optimizer step", other: "{n} optimizer steps" },
  "plan.how": "{epochs} epochs, batch {batch}",
  "plan.facts": "Buckets and memory",
  "plan.images": "Images with what is cut off, the worst first",
  "plan.cut": "{share} of the pixels are cut off.",
  "plan.cutOff": "{share} cut",
  "plan.scale": "× {scale} enlarged",
  "plan.enlarged": { one: "{n} image is enlarged", other: "{n} images are enlarged" },
  "plan.worst": "Dark: cut off. The worst come first.",
  "plan.buckets": "Buckets",
  "plan.balance": "Regularisation",
  "plan.balance.text": "{reg} samples for {train} of training",
  "plan.memory": "Memory",
  "plan.memory.of": "{need} of {have}",
  "plan.memory.short": "It does not fit: choose “tight” in Train.",
  "plan.layout": { one: "Lay out {n} image", other: "Lay out {n} images" },
  "plan.current": "The dataset is laid out like this.",
  "plan.started": "Laying out the dataset",
} as const;
