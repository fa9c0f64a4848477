/** The tab Watch. */

export const watch = {
  "watch.empty": "No training has run here.",
  "watch.empty.hint":
    "Start one in Train, or run `dsk train` in a terminal: it appears here by itself.",
  "watch.question": "How is a loss read?",
  "watch.answer":
    "The loss falls quickly, then slowly, and is noisy from step to step. The loss on held-out images says when more training no longer helps.",

  "watch.runs": "Runs",
  "watch.compare": "Show in the same chart: {name}",
  "watch.step": "step {step} of {steps}",
  "watch.epoch": "epoch {epoch} of {epochs}",
  "watch.perStep": "{seconds} s per step",
  "watch.left": "{time} left",
  "watch.memory": "{size} peak memory",
  "watch.lastSeen": "last seen {time}",
  "watch.lost":
    "It ended without a word: killed, out of memory, or a power cut. Its last state is of step {step}.",
  "watch.lost.noState":
    "It ended without a word: killed, out of memory, or a power cut. It has no state.",
  "watch.failed": "It failed: {reason}",
  "watch.stopped": "It was stopped at step {step}; its state is saved.",
  "watch.resume": "Resume from step {step}",
  "watch.again": "Start it again in Train",

  "watch.stop": "Stop and save",
  "watch.stopping": "Saving at step {step}…",
  "watch.stopNow": { one: "End now, loses {n} step", other: "End now, loses {n} steps" },
  "watch.stopNow.encoding": "End now",
  "watch.kill": "Kill the process",
  "watch.stopHint":
    "It ends its step, writes its state and the LoRA, and can be resumed from there.",

  "watch.loss": "Loss",
  "watch.rates": "Learning rate",
  "watch.heldOut": "Held-out loss",
  "watch.heldOut.none": "No held-out images: set validation_split in Train.",
  "watch.previews": "Preview images",
  "watch.previews.none": "This run draws no preview images: set sample_prompts in Train.",
  "watch.previews.before": "before",
  "watch.previews.epoch": "epoch {epoch}",
  "watch.prompt": "Prompt",
  "watch.smooth": "Smoothing",
  "watch.x": "Over",
  "watch.x.step": "step",
  "watch.x.samples": "samples",
  "watch.x.time": "time",
  "watch.table": "As a table",
  "watch.summary": "{value} after step {step}, {trend}",
  "watch.trend.falling": "falling",
  "watch.trend.rising": "rising",
  "watch.trend.steady": "steady",
  "watch.noData": "No step has been trained yet.",
  "watch.differs": "Differs from {name}:",
  "watch.differs.none": "Has the same options as {name}.",
  "watch.formDiffers": {
    one: "Train has {n} change that this run does not use.",
    other: "Train has {n} changes that this run does not use.",
  },
  "watch.log": "Log",
  "watch.log.none": "It prints into its own terminal.",
  "watch.log.label": "Log of {name}",
  "watch.preview.label": "Preview image of {epoch}, prompt {prompt}",
  "watch.open": "Enter opens it large; arrow keys: prompt and epoch.",
} as const;
