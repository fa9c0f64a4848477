/** The tab Check. */

export const check = {
  "check.empty": "没有可检查的图片。",
  "check.empty.hint": "先添加图片，然后这里会指出哪些问题会影响训练，并修复它们。",
  "check.question": "检查哪些内容？",
  "check.answer": "无法读取的文件、过小的图片、近似重复，以及缺失、空白或过长的标注。",
} as const;
