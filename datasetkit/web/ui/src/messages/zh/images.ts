/** The tab Images. */

export const images = {
  "images.empty": "还没有图片。",
  "images.empty.hint": "把图片文件夹拖到这里，或直接使用它所在的位置。",
  "images.question": "LoRA 需要什么样的图片？",
  "images.answer": "12 至 100 张同一主体的图片：清晰，大于训练尺寸，姿势、地点和光线各不相同。",
} as const;
