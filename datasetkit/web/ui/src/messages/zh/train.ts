/** The tab Train. */

export const train = {
  "train.empty": "没有可用于训练的数据集。",
  "train.empty.hint": "先添加图片，然后可以在这里设置训练选项。",
  "train.question": "这些选项是什么意思？",
  "train.answer": "十个选项决定了大部分结果，每个都注明常用值。其余选项可以按名称搜索。",
} as const;
