/** The tab Plan. */

export const plan = {
  "plan.empty": "没有可规划的概念。",
  "plan.empty.hint": "先添加图片，然后这里会准确显示分桶、步数和显存。",
  "plan.question": "什么是分桶？",
  "plan.answer":
    "形状相近的图片一起训练。一个桶就是一种尺寸：图片会缩放到所在的桶，放不下的部分会被裁掉。",
  "plan.repeats": "重复次数",
  "plan.samples": { other: "每轮 {n} 个样本" },
  "plan.steps": { other: "{n} 个优化步" },
  "plan.how": "{epochs} 轮，批大小 {batch}",
  "plan.facts": "分桶与显存",
  "plan.images": "图片与裁掉的部分，最差的在前",
  "plan.cut": "裁掉了 {share} 的像素。",
  "plan.cutOff": "裁掉 {share}",
  "plan.scale": "放大 {scale} 倍",
  "plan.enlarged": { other: "{n} 张图片被放大" },
  "plan.worst": "深色为裁掉部分。最差的在前。",
  "plan.buckets": "分桶",
  "plan.balance": "正则化",
  "plan.balance.text": "训练 {train} 个样本，正则化 {reg} 个",
  "plan.memory": "显存",
  "plan.memory.of": "{have} 中的 {need}",
  "plan.memory.short": "放不下：请在“训练”中选择“紧凑”。",
  "plan.layout": { other: "布局 {n} 张图片" },
  "plan.current": "数据集已按此布局。",
  "plan.started": "正在布局数据集",
} as const;
