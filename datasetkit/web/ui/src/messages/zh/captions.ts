/** The tab Captions. */

export const captions = {
  "captions.empty": "还没有标注。",
  "captions.empty.hint": "先添加图片，然后在这里打标。",
  "captions.question": "标注有什么用？",
  "captions.answer":
    "标注说明图片里有什么。写出来的内容之后可以用提示词改变；没写出来的会成为主体的一部分。",
} as const;
