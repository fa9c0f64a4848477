/** The tab Images. */

export const images = {
  "images.empty": "No images yet.",
  "images.empty.hint": "Drop a folder of images here, or use one where it lies.",
  "images.question": "What images does a LoRA need?",
  "images.answer":
    "12 to 100 images of one subject, sharp, larger than the training size, and different in pose, place and light.",
} as const;
