/** The first page of an empty project, and the notes of the tour. */

export const start = {
  "start.title": "从图片到 LoRA",
  "start.folder": "打开文件夹",
  "start.folder.what": "直接使用本机上的图片，不移动位置。",
  "start.drop": "把图片拖到这里",
  "start.drop.what": "拖入会复制到此项目。",
  "start.example": { other: "用 {n} 张示例图片试一试" },
  "start.example.what": "三分钟，无需下载，无需 GPU。",
  "start.example.do": "试用示例",
  "start.jobs": "正在运行：",
  "start.recent": "最近的项目",
  "tour.label": "导览",
  "tour.place": "第 {n} 步，共 {of} 步",
  "tour.end": "结束导览",
  "tour.next": "下一步：{tab}",
  "tour.skip": "只看看：{tab}",
  "tour.images": "这里有 24 张狐耳女孩的小图和 32 张其他女孩的图。“处理”统一尺寸；原图不变。",
  "tour.check": "每张卡片是一类问题，最严重的在前。无需决定的问题可一步修复，修复前会先列出更改。",
  "tour.captions":
    "标注写出图片里有什么。触发词 kitsu 排在最前。“精简”会去掉属于她本身的标签，让触发词学会它们。",
  "tour.plan": "深色边缘会被裁掉。重复次数和轮数决定步数，数字是精确的。",
  "tour.train": "十个选项，都已为本示例设好。开始时会先布局数据集。按钮上写明需要多少步。",
  "tour.watch": "损失下降，预览图逐渐变成她。训练可在任意一步停止，并从那里继续。",
  "tour.compare": "相同的提示词，每个轮次各一张，还有不加 LoRA 的。为好的评分，并保留一个轮次。",
  "tour.history": "做过的一切，以及如何撤回。",
} as const;
