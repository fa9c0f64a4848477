/** The tab History. */

export const history = {
  "history.empty": "还没有任何更改。",
  "history.empty.hint": "数据集的每次更改都会出现在这里，并且可以撤销。",
  "history.question": "哪些可以撤销？",
  "history.answer": "dsk 写入数据集的一切：标注、重命名、移动和排除。训练结果是单独的文件。",
  "history.when": "时间",
  "history.command": "命令",
  "history.what": "内容",
  "history.operations": "文件",
  "history.open": "已中断",
  "history.undone": "已撤销",
  "history.undone.count": { other: "已撤销 {n} 条" },
  "history.changes": "更改内容",
  "history.more": { other: "还有 {n} 项" },
  "history.undo": "撤销到此处…",
  "history.undo.title": "撤销：{title}",
  "history.undo.what": { other: "将撤销此条及更新的记录，共 {n} 条：" },
  "history.undo.start": { other: "撤销 {n} 条" },
} as const;
