/** The tab Plan. */

export const plan = {
  "plan.empty": "没有可规划的概念。",
  "plan.empty.hint": "先添加图片，然后这里会准确显示分桶、步数和显存。",
  "plan.question": "什么是分桶？",
  "plan.answer":
    "形状相近的图片一起训练。一个桶就是一种尺寸：图片会缩放到所在的桶，放不下的部分会被裁掉。",
} as const;
