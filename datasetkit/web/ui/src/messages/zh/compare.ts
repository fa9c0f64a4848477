/** The tab Compare. */

export const compare = {
  "compare.empty": "没有可比较的 LoRA。",
  "compare.empty.hint": "先训练一个，然后这里帮助选出要保留的轮次。",
  "compare.question": "如何选择轮次？",
  "compare.answer":
    "用相同的提示词和种子绘制每个轮次以及不带 LoRA 的结果。应保留的轮次既像主体，又听从提示词。",
} as const;
