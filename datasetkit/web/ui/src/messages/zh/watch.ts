/** The tab Watch. */

export const watch = {
  "watch.empty": "这里还没有运行过训练。",
  "watch.empty.hint": "在“训练”中启动，或在终端运行 `dsk train`：它会自动出现在这里。",
  "watch.question": "怎样看损失？",
  "watch.answer": "损失先快后慢地下降，每一步都有噪声。预留图片上的损失说明继续训练何时不再有用。",
} as const;
