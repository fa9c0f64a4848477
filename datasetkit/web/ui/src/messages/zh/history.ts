/** The tab History. */

export const history = {
  "history.empty": "还没有任何更改。",
  "history.empty.hint": "数据集的每次更改都会出现在这里，并且可以撤销。",
  "history.question": "哪些可以撤销？",
  "history.answer": "dsk 写入数据集的一切：标注、重命名、移动和排除。训练结果是单独的文件。",
} as const;
